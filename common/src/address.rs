//! Addresses as texts: which of them lead to this machine, and how names stand in them. Nobody is asked what a name resolves to:
//! that may change between the question and the call.

use reqwest::Url;

/// The host is this machine: `localhost`, or an IP address of its loopback, which may stand in brackets. Without a port.
///
/// An IPv4 address inside an IPv6 one (`::ffff:127.0.0.1`) is none of these.
pub fn is_this_machine(host: &str) -> bool {
    let bare = host.trim_matches(['[', ']']);
    bare.eq_ignore_ascii_case("localhost") || bare.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// The address leads to this machine.
pub fn leads_here(url: &Url) -> bool {
    url.host_str().is_some_and(is_this_machine)
}

/// A part of a path as it stands in an address: a slash in it is none of the path.
pub fn path_encoded(part: &str) -> String {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.~".contains(&b);
    part.bytes().map(|b| if is_plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_known_by_name_and_by_number() {
        for (host, is_here) in [
            ("127.0.0.1", true),
            ("127.8.8.8", true),
            ("[::1]", true),
            ("::1", true),
            ("localhost", true),
            ("LOCALHOST", true),
            ("::ffff:127.0.0.1", false),
            ("[::ffff:127.0.0.1]", false),
            ("0.0.0.0", false),
            ("[::]", false),
            ("10.0.0.1", false),
            ("localhost.", false),
            ("localhost.evil.example", false),
            ("127.0.0.1.evil.example", false),
            ("evil.example", false),
            ("localhost:7480", false),
            ("", false),
        ] {
            assert_eq!(is_this_machine(host), is_here, "{host}");
        }
    }

    #[test]
    fn a_part_of_a_path_stays_one_part() {
        for (part, encoded) in [
            ("node-1_a.b~c", "node-1_a.b~c"),
            ("a/b", "a%2Fb"),
            ("a b?c#d%", "a%20b%3Fc%23d%25"),
            ("\u{e9}", "%C3%A9"),
            ("", ""),
        ] {
            assert_eq!(path_encoded(part), encoded, "{part}");
        }
    }

    #[test]
    fn an_address_leads_where_its_host_says() {
        for (address, is_here) in [
            ("http://127.0.0.1:7480", true),
            ("https://127.8.8.8/path", true),
            ("http://[::1]:7480", true),
            ("http://LOCALHOST:7480/", true),
            ("http://evil.example@localhost/", true),
            // Other ways to write the same number: a client takes them so, too.
            ("http://127.1/", true),
            ("http://2130706433/", true),
            ("http://[::ffff:127.0.0.1]/", false),
            ("http://0.0.0.0/", false),
            ("http://localhost.evil.example/", false),
            ("http://127.0.0.1.evil.example/", false),
            ("http://localhost@evil.example/", false),
            ("http://localhost:80@evil.example/", false),
            (r"http://evil.example\@localhost/", false),
            ("http://evil.example/#@localhost", false),
            ("http://evil.example/?@localhost", false),
            ("file:///localhost", false),
        ] {
            let url = Url::parse(address).unwrap();
            assert_eq!(leads_here(&url), is_here, "{address}");
        }
    }
}
