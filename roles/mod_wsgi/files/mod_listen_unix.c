/* Managed by flaskops.server: lets httpd listen on a unix socket, which its own Listen does not know.
 *
 *     ListenUnix /run/shop/0123456789ab/http.sock
 *
 * APR accepts connections of unix sockets; what is missing is an entry in httpd's list of listeners.
 * The socket gets its mode from the umask and its owner from the user that starts httpd.
 */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "ap_listen.h"
#include "apr_portable.h"
#include "apr_strings.h"
#include "http_config.h"
#include "http_core.h"
#include "unixd.h"

static const char *listen_unix(cmd_parms *cmd, void *unused, const char *path)
{
    apr_pool_t *pool = cmd->server->process->pool;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    apr_os_sock_info_t opened = {0};
    ap_listen_rec *listener = apr_pcalloc(pool, sizeof *listener);
    int fd;

    (void)unused;
    if (ap_state_query(AP_SQ_RUN_MODE) != AP_SQ_RM_NORMAL)
        return NULL;
    if (strlen(path) >= sizeof address.sun_path)
        return "the path is too long for a unix socket";
    strcpy(address.sun_path, path);

    /* httpd reads its configuration twice, and closes the listeners of the first time itself. */
    unlink(path);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) || listen(fd, SOMAXCONN))
        return apr_psprintf(cmd->pool, "%s: %s", path, strerror(errno));

    opened.os_sock = &fd;
    opened.local = (struct sockaddr *)&address;
    opened.family = AF_UNIX;
    opened.type = SOCK_STREAM;
    if (apr_os_sock_make(&listener->sd, &opened, pool) != APR_SUCCESS
        || apr_socket_addr_get(&listener->bind_addr, APR_LOCAL, listener->sd) != APR_SUCCESS)
        return "APR refuses the socket";
    listener->accept_func = ap_unixd_accept;
    listener->active = 1;
    listener->next = ap_listeners;
    ap_listeners = listener;
    return NULL;
}

static const command_rec directives[] = {
    AP_INIT_TAKE1("ListenUnix", listen_unix, NULL, RSRC_CONF, "the path of a unix socket"),
    {NULL}
};

AP_DECLARE_MODULE(listen_unix) = {STANDARD20_MODULE_STUFF, .cmds = directives};
