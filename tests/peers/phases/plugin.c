/* Takes part in every phase: what sdk_samples.rs builds, and phases.toml asks. */
#include "waypost.h"

WP_PLUGIN("every-phase", "0.1.0")

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

bool wp_on_mail_from(wp_peer *peer, wp_sender *sender, wp_sender_verdict *verdict, wp_hook_error_t *error) {
    (void)sender; (void)error;
    *verdict = (wp_sender_verdict){.flow = WP_FLOW_NEXT};
    if (wp_equal(peer->helo, WP("bad.example"))) {
        verdict->action.tag = EXPORTS_WP_SENDER_ACTION_REJECT;
        verdict->action.val.reject = wp_reply(550, "5.7.1", WP("not you"));
    }
    return true;
}

bool wp_on_rcpt(wp_recipient *rcpt, wp_recipient_verdict *verdict, wp_hook_error_t *error) {
    (void)error;
    *verdict = (wp_recipient_verdict){.flow = WP_FLOW_NEXT};
    if (wp_equal(rcpt->mailbox.local_part, WP("closed"))) {
        verdict->action.tag = EXPORTS_WP_RECIPIENT_ACTION_REJECT;
        verdict->action.val.reject = wp_reply(550, "5.1.1", WP("closed"));
    }
    return true;
}

bool wp_on_message(wp_message_verdict *verdict, wp_hook_error_t *error) {
    (void)error;
    *verdict = (wp_message_verdict){.flow = WP_FLOW_NEXT};
    wp_str name = WP("x-hold"); wp_strs values;
    wp_message_header(&name, &values);
    if (values.len) {
        verdict->action.tag = EXPORTS_WP_MESSAGE_ACTION_HOLD;
        verdict->action.val.hold.reason = WP("asked for");
    }
    return true;
}

bool wp_on_delivery_result(wp_attempt *attempt, wp_advice *advice, wp_hook_error_t *error) {
    (void)attempt; (void)error;
    advice->tag = EXPORTS_WP_DELIVERY_ADVICE_RETRY_AFTER;
    advice->val.retry_after = 3600;
    return true;
}
