/* A sample of a plugin that overrides: a table of recipient domains, each with
 * the host that takes its mail instead of what DNS says.
 *
 *   [plugin.config.routes]
 *   "example.com" = "relay.example.net:2525"
 *   "*.example.org" = { host = "10.0.0.25", tls = "encrypt", auth = "partner" }
 *   "*" = "smarthost.example.net"
 *
 * An exact entry wins over a suffix, a longer suffix over a shorter one, and any
 * of them over `*`. A domain that no entry matches goes where it would have gone.
 */
#include "waypost.h"

WP_PLUGIN("smarthost-table", "0.1.0")

typedef struct {
    wp_str host;
    bool has_port;
    uint16_t port;
    wp_str tls;
    wp_str auth;
} entry;

/* `host`, `host:port`, `[2001:db8::1]:port`. Gives a fault, or an empty string. */
static wp_str from_text(wp_str text, entry *to) {
    wp_str port = {0};
    bool has_port = false;
    ptrdiff_t close = wp_find(text, ']', 0), colon = wp_find(text, ':', 0);
    to->host = text;
    if (text.len > 0 && text.ptr[0] == '[' && close > 0) {
        size_t end = (size_t)close + 1;
        to->host = wp_slice(text, 1, (size_t)close);
        has_port = end < text.len;
        if (has_port && text.ptr[end] == ':') {
            end++;
        }
        port = wp_slice(text, end, text.len);
    } else if (!wp_is_address(text) && colon >= 0) {
        to->host = wp_slice(text, 0, (size_t)colon);
        has_port = true;
        port = wp_slice(text, (size_t)colon + 1, text.len);
    }
    uint64_t number = 0;
    if (has_port && !wp_number(port, 65535, &number)) {
        return wp_format("%q is no port", port);
    }
    to->has_port = has_port;
    to->port = (uint16_t)number;
    return WP("");
}

/* An entry that is a table of its own. */
static wp_str from_table(wp_str path, wp_strs keys, entry *to) {
    for (size_t at = 0; at < keys.len; at++) {
        wp_str key = keys.ptr[at], text = {0};
        wp_str inner = wp_format("%s.%q", path, key);
        int64_t number = 0;
        if (wp_equal(key, WP("port"))) {
            if (!wp_config_integer(inner, &number) || number < 0 || number > 65535) {
                return WP("port: a number up to 65535 is wanted");
            }
            to->has_port = true;
            to->port = (uint16_t)number;
            continue;
        }
        wp_str *field = wp_equal(key, WP("host"))   ? &to->host
                        : wp_equal(key, WP("tls"))  ? &to->tls
                        : wp_equal(key, WP("auth")) ? &to->auth
                                                    : NULL;
        if (!field) {
            return wp_format("unknown field `%s`", key);
        }
        if (!wp_config_text(inner, &text)) {
            return wp_format("%s: a text is wanted", key);
        }
        *field = text;
    }
    return to->host.ptr ? WP("") : WP("missing field `host`");
}

/* Rough on purpose: the relay checks names in full. */
static bool is_name(wp_str name) {
    for (size_t at = 0, start = 0; at <= name.len; at++) {
        if (at == name.len || name.ptr[at] == '.') {
            if (at == start) {
                return false;
            }
            start = at + 1;
            continue;
        }
        uint8_t octet = name.ptr[at];
        bool letter = (octet | 32) >= 'a' && (octet | 32) <= 'z';
        bool digit = octet >= '0' && octet <= '9';
        if (!letter && !digit && octet != '-' && octet != '_' && octet < 128) {
            return false;
        }
    }
    return true;
}

static bool policy(wp_str word, uint8_t *tag) {
    static const struct {
        const char *word;
        uint8_t tag;
    } known[] = {
        {"off", WP_ROUTE_TLS_POLICY_OFF},
        {"opportunistic", WP_ROUTE_TLS_POLICY_OPPORTUNISTIC},
        {"encrypt", WP_ROUTE_TLS_POLICY_ENCRYPT},
        {"verify", WP_ROUTE_TLS_POLICY_VERIFY},
        {"dane", WP_ROUTE_TLS_POLICY_DANE},
        {"implicit", WP_ROUTE_TLS_POLICY_IMPLICIT},
    };
    for (size_t at = 0; at < sizeof known / sizeof *known; at++) {
        if (wp_equal(word, wp_cstr(known[at].word))) {
            *tag = known[at].tag;
            return true;
        }
    }
    return false;
}

/* Reads the entry at a path; false: there is none. */
static bool read_entry(wp_str path, entry *to, wp_str *fault) {
    *to = (entry){0};
    *fault = WP("");
    wp_config_value_t value;
    if (wp_config_get(&path, &value)) {
        if (value.tag == WP_CONFIG_VALUE_TEXT) {
            *fault = from_text(value.val.text, to);
        } else if (value.tag == WP_CONFIG_VALUE_INTEGER) {
            *fault = wp_format("%d is neither \"host:port\" nor a table", value.val.integer);
        } else {
            *fault = WP("neither \"host:port\" nor a table");
        }
    } else {
        wp_strs keys;
        wp_config_keys(&path, &keys);
        if (keys.len == 0) {
            return false;
        }
        *fault = from_table(path, keys, to);
    }
    uint8_t tag;
    if (fault->len > 0) {
        return true;
    }
    if (to->has_port && to->port == 0) {
        *fault = WP("0 is no port");
    } else if (!wp_is_address(to->host) && !is_name(to->host)) {
        *fault = wp_format("%q is neither a host nor an address", to->host);
    } else if (to->tls.ptr && !policy(to->tls, &tag)) {
        *fault = wp_format("tls = %q, but off, opportunistic, encrypt, verify, dane or "
                           "implicit is wanted",
                           to->tls);
    }
    return true;
}

static bool is_key(wp_str key) {
    if (wp_equal(key, WP("*"))) {
        return true;
    }
    wp_str name = wp_starts_with(key, WP("*.")) ? wp_slice(key, 2, key.len) : key;
    for (size_t at = 0; at < name.len; at++) {
        if ((name.ptr[at] >= 'A' && name.ptr[at] <= 'Z') || name.ptr[at] >= 128) {
            return false;
        }
    }
    return is_name(name);
}

void wp_check_config(wp_strs *faults) {
    wp_str routes = WP("routes");
    wp_strs keys;
    wp_config_keys(&routes, &keys);
    if (keys.len == 0) {
        wp_strs_add(faults, WP("routes: no entry; a table of domains is wanted"));
    }
    for (size_t at = 0; at < keys.len; at++) {
        wp_str key = keys.ptr[at], fault;
        entry found;
        if (!is_key(key)) {
            wp_strs_add(faults, wp_format("routes.%q: a domain in lower case, `*.domain` "
                                          "or `*` is wanted",
                                          key));
        }
        if (!read_entry(wp_format("routes.%q", key), &found, &fault)) {
            fault = WP("missing field `host`");
        }
        if (fault.len > 0) {
            wp_strs_add(faults, wp_format("routes.%q: %s", key, fault));
        }
    }
}

/* Routes by the entry of one key; false: there is none. */
static bool route_by(wp_str key, wp_verdicts *verdicts, wp_str *fault) {
    entry found;
    /* Only the entry that matters is read: a call costs the same with a table of
     * ten thousand domains. */
    if (!read_entry(wp_format("routes.%q", key), &found, fault)) {
        return false;
    }
    if (fault->len > 0) {
        return true;
    }
    wp_verdict *verdict = wp_verdict_add(verdicts);
    wp_route_next_hop_t *hop = wp_hop_add(wp_use_hops(verdict), found.host, found.port);
    if (found.tls.ptr) {
        hop->tls.is_some = true;
        policy(found.tls, &hop->tls.val.tag);
    }
    if (found.auth.ptr) {
        hop->auth.is_some = true;
        hop->auth.val = found.auth;
    }
    wp_str place = found.host;
    if (found.has_port) {
        place = wp_find(place, ':', 0) < 0 ? wp_format("%s:%u", place, found.port)
                                           : wp_format("[%s]:%u", place, found.port);
    }
    wp_verdict_note(verdict, wp_format("%s -> %s", key, place));
    return true;
}

bool wp_route(wp_request *request, wp_verdicts *verdicts, wp_hook_error_t *error) {
    wp_str domain = request->domain, fault = {0};
    bool found = route_by(domain, verdicts, &fault);
    for (ptrdiff_t dot = wp_find(domain, '.', 0); !found && dot >= 0;
         dot = wp_find(domain, '.', (size_t)dot + 1)) {
        wp_str parent = wp_slice(domain, (size_t)dot, domain.len);
        found = route_by(wp_format("*%s", parent), verdicts, &fault);
    }
    if (!found) {
        route_by(WP("*"), verdicts, &fault);
    }
    /* What has been checked cannot be wrong, unless the check is. */
    return fault.len == 0 || wp_broken(error, fault);
}
