//! Which proxy a connection goes through, for whoever explains it. Connections themselves find it by the same rules.

use hyper_util::client::proxy::matcher::Matcher;
use tonic::codegen::http::Uri;

/// What `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY` say.
pub struct Proxies(Matcher);

impl Proxies {
    /// As the environment has it.
    pub fn from_env() -> Self {
        Self(Matcher::from_env())
    }

    /// The proxy for an address, without user and password; `None`: it is reached directly.
    pub fn of(&self, address: &str) -> Option<String> {
        let intercept = self.0.intercept(&address.parse::<Uri>().ok()?)?;
        let place = intercept.uri();
        let port = place.port_u16().map(|port| format!(":{port}")).unwrap_or_default();
        Some(format!("{}://{}{port}", place.scheme_str().unwrap_or("http"), place.host().unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_told_without_its_password() {
        let matcher = Matcher::builder().https("http://user:hidden@proxy.example:3128").no("inside.example").build();
        let proxies = Proxies(matcher);
        assert_eq!(proxies.of("https://outside.example/a?b=c").as_deref(), Some("http://proxy.example:3128"));
        assert_eq!(proxies.of("https://deep.inside.example"), None);
        assert_eq!(proxies.of("http://outside.example"), None, "what is plain has a variable of its own");
        assert_eq!(proxies.of("no address"), None);
    }
}
