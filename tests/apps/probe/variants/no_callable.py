"""Has no ``create_app``."""

WITHOUT_CALLABLE = True
