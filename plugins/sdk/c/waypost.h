/* Waypost plugins in C: short names and a few conveniences over the bindings
 * that `waypost plugin build` generates from the contract (`plugin.h`, in
 * build/bindings, with the contract's own comments).
 *
 * There is no C library and no WASI. Two rules are all there is to memory:
 *
 *  - what you allocate, and what the host gives you, is gone when the call ends;
 *  - nothing has to be freed. The `*_free` functions of the bindings do nothing
 *    that you need.
 *
 * Strings have a length and no closing zero; they need not be copied to be part
 * of an answer.
 */
#ifndef WAYPOST_H
#define WAYPOST_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "plugin.h"

/* ---- Strings ---------------------------------------------------------- */

typedef plugin_string_t wp_str;
typedef plugin_list_string_t wp_strs;

/* The string of a literal. */
#define WP(literal) ((wp_str){(uint8_t *)(literal), sizeof(literal) - 1})

wp_str wp_cstr(const char *text);
bool wp_equal(wp_str a, wp_str b);
bool wp_starts_with(wp_str text, wp_str start);
bool wp_ends_with(wp_str text, wp_str end);
/* Position of an octet at or after `from`; -1: it is not there. */
ptrdiff_t wp_find(wp_str text, char octet, size_t from);
/* Cut to what there is: never out of bounds. */
wp_str wp_slice(wp_str text, size_t from, size_t to);
/* A decimal number without sign; false: the text is none, or over `most`. */
bool wp_number(wp_str text, uint64_t most, uint64_t *number);
/* `%s` a wp_str, `%c` a C string, `%q` a wp_str in double quotes, `%u` an
 * unsigned, `%d` an int64_t, `%%` a percent sign. */
wp_str wp_format(const char *format, ...);

/* Adds to a list of strings. */
void wp_strs_add(wp_strs *list, wp_str text);

/* Room for one more element of a list of the bindings, zeroed. */
#define WP_ADD(list)                                                           \
    (__typeof__((list)->ptr))wp_grow((void **)&(list)->ptr, &(list)->len,      \
                                     sizeof(*(list)->ptr))
void *wp_grow(void **elements, size_t *count, size_t size);

/* ---- The host --------------------------------------------------------- */

/* One line in the relay's log. */
void wp_log(wp_log_level_t level, wp_str text);

/* A key as one step of a path of the configuration: in quotes, so that its dots
 * do not count. */
wp_str wp_quote_key(wp_str key);
/* Leaves of the configuration; false: not there, or of another type. */
bool wp_config_text(wp_str path, wp_str *text);
bool wp_config_integer(wp_str path, int64_t *number);
bool wp_config_boolean(wp_str path, bool *flag);

/* ---- Life ------------------------------------------------------------- */

/* Says who the plugin is; once, outside of functions. You write wp_check_config,
 * which adds a line for every fault of the configuration. */
#define WP_PLUGIN(plugin_name, plugin_version)                                 \
    void exports_wp_lifecycle_identify(exports_wp_lifecycle_identity_t *self) {\
        self->name = WP(plugin_name);                                          \
        self->version = WP(plugin_version);                                    \
    }                                                                          \
    bool exports_wp_lifecycle_init(wp_str *fault) {                            \
        (void)fault;                                                           \
        return true;                                                           \
    }                                                                          \
    void exports_wp_lifecycle_check_config(wp_strs *faults) {                  \
        *faults = (wp_strs){0};                                                \
        wp_check_config(faults);                                               \
    }
void wp_check_config(wp_strs *faults);

/* What a phase returns when it cannot decide: `return wp_broken(error, …);` */
bool wp_temporary(wp_hook_error_t *error, wp_str why);
bool wp_broken(wp_hook_error_t *error, wp_str why);

wp_reply_t wp_reply(uint16_t code, const char *enhanced, wp_str text);

/* ---- Phases ----------------------------------------------------------- */

#ifdef WP_PHASE_SENDER
typedef exports_wp_sender_peer_t wp_peer;
typedef exports_wp_sender_sender_t wp_sender;
typedef exports_wp_sender_verdict_t wp_sender_verdict;
/* bool wp_on_mail_from(wp_peer *, wp_sender *, wp_sender_verdict *, wp_hook_error_t *) */
#define wp_on_mail_from exports_wp_sender_on_mail_from
#endif

#ifdef WP_PHASE_RECIPIENT
typedef exports_wp_recipient_recipient_t wp_recipient;
typedef exports_wp_recipient_verdict_t wp_recipient_verdict;
/* bool wp_on_rcpt(wp_recipient *, wp_recipient_verdict *, wp_hook_error_t *) */
#define wp_on_rcpt exports_wp_recipient_on_rcpt
#endif

#ifdef WP_PHASE_MESSAGE
typedef exports_wp_message_verdict_t wp_message_verdict;
/* bool wp_on_message(wp_message_verdict *, wp_hook_error_t *) */
#define wp_on_message exports_wp_message_on_message
#endif

#ifdef WP_PHASE_ROUTING
typedef exports_wp_routing_request_t wp_request;
typedef exports_wp_routing_verdict_t wp_verdict;
typedef exports_wp_routing_list_verdict_t wp_verdicts;
/* bool wp_route(wp_request *, wp_verdicts *, wp_hook_error_t *): chooses next
 * hops. `*verdicts` is empty when it is called; left so: no opinion. */
#define wp_route wp_route_phase

/* A verdict for all recipients that no other names; proceeds until you say
 * otherwise. */
wp_verdict *wp_verdict_add(wp_verdicts *verdicts);
void wp_verdict_note(wp_verdict *verdict, wp_str note);
/* Use these hops and nothing else; add to the list with WP_ADD or wp_hop_add. */
exports_wp_routing_list_next_hop_t *wp_use_hops(wp_verdict *verdict);
/* A host or an IP address, by SMTP; port 0: the usual one. */
wp_route_next_hop_t *wp_hop_add(exports_wp_routing_list_next_hop_t *hops,
                                wp_str place, uint16_t port);
void wp_defer(wp_verdict *verdict, wp_str reason);
void wp_reject(wp_verdict *verdict, wp_reply_t reply);
void wp_hold(wp_verdict *verdict, wp_str reason);
bool wp_route_phase(wp_request *request, wp_verdicts *verdicts, wp_hook_error_t *error);
#endif

#ifdef WP_PHASE_DELIVERY
typedef exports_wp_delivery_attempt_t wp_attempt;
typedef exports_wp_delivery_advice_t wp_advice;
/* bool wp_on_delivery_result(wp_attempt *, wp_advice *, wp_hook_error_t *) */
#define wp_on_delivery_result exports_wp_delivery_on_delivery_result
#endif

/* Whether a text is an IPv4 or IPv6 address, as far as its characters say. */
bool wp_is_address(wp_str text);

#endif
