// The shop works without this file; it only keeps a second click from sending a form twice.
document.addEventListener("submit", (event) => {
  const button = event.target.querySelector("button");
  button.disabled = true;
  addEventListener("pageshow", () => { button.disabled = false; }, { once: true });
});
