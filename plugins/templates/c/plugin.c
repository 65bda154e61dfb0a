/* Mail for the domains of a table goes to the hosts that the table names. */
#include "waypost.h"

WP_PLUGIN("{{name}}", "0.1.0")

/* Every fault of the configuration; any refuses it. */
void wp_check_config(wp_strs *faults) {
    wp_str path = WP("routes");
    wp_strs domains;
    wp_config_keys(&path, &domains);
    if (domains.len == 0) {
        wp_strs_add(faults, WP("routes: a table of domains is wanted"));
    }
}

/* No verdict means no opinion: the mail goes where it would have gone. */
bool wp_route(wp_request *request, wp_verdicts *verdicts, wp_hook_error_t *error) {
    (void)error;
    wp_str host;
    if (!wp_config_text(wp_format("routes.%q", request->domain), &host)) {
        return true;
    }
    wp_verdict *verdict = wp_verdict_add(verdicts);
    wp_hop_add(wp_use_hops(verdict), host, 0);
    wp_verdict_note(verdict, wp_format("%s -> %s", request->domain, host));
    return true;
}
