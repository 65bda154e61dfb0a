/* The little that Waypost plugins in C need at run time. */
#include "waypost.h"

/* ---- Memory: an arena --------------------------------------------------- */

extern uint8_t __heap_base;
static uintptr_t arena_end;

enum { ALIGNMENT = 16, PAGE = 65536 };

static void arena_reset(void) { arena_end = (uintptr_t)&__heap_base; }

/* The size of an allocation is kept before it, for realloc. */
void *malloc(size_t size) {
    if (arena_end == 0) {
        arena_reset();
    }
    uintptr_t start = (arena_end + ALIGNMENT - 1) & ~(uintptr_t)(ALIGNMENT - 1);
    start += ALIGNMENT;
    uintptr_t end = start + size;
    if (end < start) {
        return NULL;
    }
    uintptr_t have = __builtin_wasm_memory_size(0) * (uintptr_t)PAGE;
    if (end > have) {
        size_t pages = (end - have + PAGE - 1) / PAGE;
        if (__builtin_wasm_memory_grow(0, pages) == (size_t)-1) {
            return NULL;
        }
    }
    *(size_t *)(start - sizeof(size_t)) = size;
    arena_end = end;
    return (void *)start;
}

void *realloc(void *old, size_t size) {
    size_t had = old ? *(size_t *)((uintptr_t)old - sizeof(size_t)) : 0;
    if (old && had >= size) {
        return old;
    }
    void *new = malloc(size);
    if (new && old) {
        memcpy(new, old, had);
    }
    return new;
}

void *calloc(size_t count, size_t size) {
    size_t all;
    if (__builtin_mul_overflow(count, size, &all)) {
        return NULL;
    }
    void *new = malloc(all);
    return new ? memset(new, 0, all) : NULL;
}

void free(void *memory) { (void)memory; }

_Noreturn void abort(void) { __builtin_trap(); }

/* The host calls these when it has taken the answer: the call is over, and with
 * it all that it allocated. They take the place of weak ones in the bindings. */
#define POST_RETURN(name, export)                                              \
    __attribute__((__export_name__("cabi_post_waypost:policy/" export)))       \
    void __wasm_export_exports_##name##_post_return(uint8_t *answer);          \
    void __wasm_export_exports_##name##_post_return(uint8_t *answer) {         \
        (void)answer;                                                          \
        arena_reset();                                                         \
    }
POST_RETURN(wp_lifecycle_identify, "lifecycle@0.1.0#identify")
POST_RETURN(wp_lifecycle_check_config, "lifecycle@0.1.0#check-config")
POST_RETURN(wp_lifecycle_init, "lifecycle@0.1.0#init")
#ifdef WP_PHASE_SENDER
POST_RETURN(wp_sender_on_mail_from, "sender-phase@0.1.0#on-mail-from")
#endif
#ifdef WP_PHASE_RECIPIENT
POST_RETURN(wp_recipient_on_rcpt, "recipient-phase@0.1.0#on-rcpt")
#endif
#ifdef WP_PHASE_MESSAGE
POST_RETURN(wp_message_on_message, "message-phase@0.1.0#on-message")
#endif
#ifdef WP_PHASE_ROUTING
POST_RETURN(wp_routing_route, "routing-phase@0.1.0#route")
#endif
#ifdef WP_PHASE_DELIVERY
POST_RETURN(wp_delivery_on_delivery_result, "delivery-phase@0.1.0#on-delivery-result")
#endif

/* The bindings want an object file with the component's type, which
 * `waypost plugin build` puts in by itself. */
void __component_type_object_force_link_plugin(void);
void __component_type_object_force_link_plugin(void) {}

/* With bulk memory operations these are instructions, not calls of themselves. */
void *memcpy(void *restrict to, const void *restrict from, size_t size) {
    return __builtin_memcpy(to, from, size);
}

void *memmove(void *to, const void *from, size_t size) {
    return __builtin_memmove(to, from, size);
}

void *memset(void *to, int octet, size_t size) { return __builtin_memset(to, octet, size); }

int memcmp(const void *a, const void *b, size_t size) {
    const uint8_t *left = a, *right = b;
    for (size_t at = 0; at < size; at++) {
        if (left[at] != right[at]) {
            return left[at] < right[at] ? -1 : 1;
        }
    }
    return 0;
}

size_t strlen(const char *text) {
    size_t length = 0;
    while (text[length]) {
        length++;
    }
    return length;
}

/* ---- Strings ------------------------------------------------------------ */

static void *wanted(size_t size) {
    void *memory = malloc(size);
    if (!memory) {
        abort();
    }
    return memory;
}

wp_str wp_cstr(const char *text) { return (wp_str){(uint8_t *)text, strlen(text)}; }

bool wp_equal(wp_str a, wp_str b) {
    return a.len == b.len && memcmp(a.ptr, b.ptr, a.len) == 0;
}

bool wp_starts_with(wp_str text, wp_str start) {
    return text.len >= start.len && memcmp(text.ptr, start.ptr, start.len) == 0;
}

bool wp_ends_with(wp_str text, wp_str end) {
    return text.len >= end.len &&
           memcmp(text.ptr + text.len - end.len, end.ptr, end.len) == 0;
}

ptrdiff_t wp_find(wp_str text, char octet, size_t from) {
    for (size_t at = from; at < text.len; at++) {
        if (text.ptr[at] == (uint8_t)octet) {
            return (ptrdiff_t)at;
        }
    }
    return -1;
}

wp_str wp_slice(wp_str text, size_t from, size_t to) {
    if (to > text.len) {
        to = text.len;
    }
    if (from > to) {
        from = to;
    }
    return (wp_str){text.ptr + from, to - from};
}

bool wp_number(wp_str text, uint64_t most, uint64_t *number) {
    uint64_t sum = 0;
    for (size_t at = 0; at < text.len; at++) {
        if (text.ptr[at] < '0' || text.ptr[at] > '9') {
            return false;
        }
        uint64_t digit = text.ptr[at] - '0';
        if (sum > (most - digit) / 10 || digit > most) {
            return false;
        }
        sum = sum * 10 + digit;
    }
    *number = sum;
    return text.len > 0;
}

/* Digits of a number from the end of a field of 20. */
static wp_str digits(uint64_t number, uint8_t field[20]) {
    size_t at = 20;
    do {
        field[--at] = (uint8_t)('0' + number % 10);
        number /= 10;
    } while (number);
    return (wp_str){field + at, 20 - at};
}

/* Writes where `out` is not null; gives the length in any case. */
static size_t put(uint8_t *out, size_t at, wp_str text) {
    if (out) {
        memcpy(out + at, text.ptr, text.len);
    }
    return at + text.len;
}

static size_t put_quoted(uint8_t *out, size_t at, wp_str text) {
    at = put(out, at, WP("\""));
    for (size_t next = 0; next < text.len; next++) {
        if (text.ptr[next] == '"' || text.ptr[next] == '\\') {
            at = put(out, at, WP("\\"));
        }
        at = put(out, at, wp_slice(text, next, next + 1));
    }
    return put(out, at, WP("\""));
}

static size_t format(uint8_t *out, const char *template, va_list values) {
    size_t at = 0;
    for (; *template; template++) {
        uint8_t field[20];
        if (*template != '%' || template[1] == 0) {
            at = put(out, at, (wp_str){(uint8_t *)template, 1});
            continue;
        }
        int64_t number;
        switch (*++template) {
        case 's':
            at = put(out, at, va_arg(values, wp_str));
            break;
        case 'q':
            at = put_quoted(out, at, va_arg(values, wp_str));
            break;
        case 'c':
            at = put(out, at, wp_cstr(va_arg(values, const char *)));
            break;
        case 'u':
            at = put(out, at, digits(va_arg(values, unsigned), field));
            break;
        case 'd':
            number = va_arg(values, int64_t);
            at = put(out, at, number < 0 ? WP("-") : WP(""));
            at = put(out, at,
                     digits(number < 0 ? -(uint64_t)number : (uint64_t)number, field));
            break;
        default:
            at = put(out, at, (wp_str){(uint8_t *)template, 1});
        }
    }
    return at;
}

wp_str wp_format(const char *template, ...) {
    va_list values, again;
    va_start(values, template);
    va_copy(again, values);
    size_t length = format(NULL, template, values);
    va_end(values);
    uint8_t *out = wanted(length);
    format(out, template, again);
    va_end(again);
    return (wp_str){out, length};
}

void *wp_grow(void **elements, size_t *count, size_t size) {
    /* Doubled when full, so that a list of n costs n. */
    size_t have = *count;
    if ((have & (have - 1)) == 0) {
        size_t room;
        if (__builtin_mul_overflow(have ? 2 * have : 1, size, &room)) {
            abort();
        }
        void *new = wanted(room);
        if (have) {
            memcpy(new, *elements, have * size);
        }
        *elements = new;
    }
    *count = have + 1;
    return memset((uint8_t *)*elements + have * size, 0, size);
}

void wp_strs_add(wp_strs *list, wp_str text) { *WP_ADD(list) = text; }

bool wp_is_address(wp_str text) {
    size_t dots = 0, colons = 0;
    for (size_t at = 0; at < text.len; at++) {
        uint8_t octet = text.ptr[at];
        bool digit = octet >= '0' && octet <= '9';
        bool hex = digit || (octet >= 'a' && octet <= 'f') || (octet >= 'A' && octet <= 'F');
        dots += octet == '.';
        colons += octet == ':';
        if (octet != '.' && octet != ':' && !hex) {
            return false;
        }
        if (colons == 0 && octet != '.' && !digit && wp_find(text, ':', at) < 0) {
            return false;
        }
    }
    return colons >= 2 || (colons == 0 && dots == 3);
}

/* ---- The host ----------------------------------------------------------- */

void wp_log(wp_log_level_t level, wp_str text) {
    wp_log_list_attribute_t none = {0};
    wp_log_write(level, &text, &none);
}

wp_str wp_quote_key(wp_str key) { return wp_format("%q", key); }

bool wp_config_text(wp_str path, wp_str *text) {
    wp_config_value_t value;
    if (!wp_config_get(&path, &value) || value.tag != WP_CONFIG_VALUE_TEXT) {
        return false;
    }
    *text = value.val.text;
    return true;
}

bool wp_config_integer(wp_str path, int64_t *number) {
    wp_config_value_t value;
    if (!wp_config_get(&path, &value) || value.tag != WP_CONFIG_VALUE_INTEGER) {
        return false;
    }
    *number = value.val.integer;
    return true;
}

bool wp_config_boolean(wp_str path, bool *flag) {
    wp_config_value_t value;
    if (!wp_config_get(&path, &value) || value.tag != WP_CONFIG_VALUE_BOOLEAN) {
        return false;
    }
    *flag = value.val.boolean;
    return true;
}

bool wp_temporary(wp_hook_error_t *error, wp_str why) {
    error->tag = WP_HOOK_ERROR_TEMPORARY;
    error->val.temporary = why;
    return false;
}

bool wp_broken(wp_hook_error_t *error, wp_str why) {
    error->tag = WP_HOOK_ERROR_BROKEN;
    error->val.broken = why;
    return false;
}

wp_reply_t wp_reply(uint16_t code, const char *enhanced, wp_str text) {
    return (wp_reply_t){.code = code, .enhanced = wp_cstr(enhanced), .text = text};
}

/* ---- Routing ------------------------------------------------------------ */

#ifdef WP_PHASE_ROUTING
bool exports_wp_routing_route(wp_request *request, wp_verdicts *verdicts,
                              wp_hook_error_t *error) {
    *verdicts = (wp_verdicts){0};
    return wp_route_phase(request, verdicts, error);
}

wp_verdict *wp_verdict_add(wp_verdicts *verdicts) {
    wp_verdict *verdict = WP_ADD(verdicts);
    verdict->decision.tag = EXPORTS_WP_ROUTING_DECISION_PROCEED;
    verdict->flow = WP_FLOW_NEXT;
    return verdict;
}

void wp_verdict_note(wp_verdict *verdict, wp_str note) {
    verdict->note.is_some = true;
    verdict->note.val = note;
}

exports_wp_routing_list_next_hop_t *wp_use_hops(wp_verdict *verdict) {
    verdict->decision.tag = EXPORTS_WP_ROUTING_DECISION_USE_HOPS;
    verdict->decision.val.use_hops = (exports_wp_routing_explicit_route_t){0};
    return &verdict->decision.val.use_hops.hops;
}

wp_route_next_hop_t *wp_hop_add(exports_wp_routing_list_next_hop_t *hops,
                                wp_str place, uint16_t port) {
    wp_route_next_hop_t *hop = WP_ADD(hops);
    if (wp_is_address(place)) {
        hop->endpoint.tag = WP_ROUTE_ENDPOINT_ADDRESS;
        hop->endpoint.val.address = place;
    } else {
        hop->endpoint.tag = WP_ROUTE_ENDPOINT_HOST;
        hop->endpoint.val.host = place;
    }
    hop->port.is_some = port != 0;
    hop->port.val = port;
    hop->weight = 1;
    hop->protocol = WP_ROUTE_PROTOCOL_SMTP;
    return hop;
}

void wp_defer(wp_verdict *verdict, wp_str reason) {
    verdict->decision.tag = EXPORTS_WP_ROUTING_DECISION_DEFER;
    verdict->decision.val.defer = (exports_wp_routing_deferral_t){.reason = reason};
}

void wp_reject(wp_verdict *verdict, wp_reply_t reply) {
    verdict->decision.tag = EXPORTS_WP_ROUTING_DECISION_REJECT;
    verdict->decision.val.reject = reply;
}

void wp_hold(wp_verdict *verdict, wp_str reason) {
    verdict->decision.tag = EXPORTS_WP_ROUTING_DECISION_HOLD;
    verdict->decision.val.hold = (exports_wp_routing_hold_t){.reason = reason};
}
#endif
