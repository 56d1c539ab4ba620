//! The token that lets a node join.

use std::{fmt, str::FromStr};

/// How a join token begins: a secret scanner can find it, and a person sees what it is.
const PREFIX: &str = "fjoin";

/// A token that lets a node join, and tells it whom to believe until it has. Shown without its secret.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    /// Names the token; no secret.
    pub id: String,
    /// Proves it.
    pub secret: String,
    /// Fingerprint of the coordinators' own authority; `None` where their certificate is by somebody else.
    pub authority: Option<String>,
}

impl JoinToken {
    /// The token as a person hands it on.
    pub fn to_text(&self) -> String {
        let Self { id, secret, authority } = self;
        format!("{PREFIX}_{id}_{secret}_{}", authority.as_deref().unwrap_or("-"))
    }
}

impl FromStr for JoinToken {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WRONG: &str = "is no join token; `ferry token create --runtime NAME` makes one";
        let parts: Vec<&str> = text.trim().split('_').collect();
        let [PREFIX, id, secret, authority] = parts.as_slice() else { return Err(WRONG) };
        let is_hex = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_hexdigit());
        if !is_hex(id) || !is_hex(secret) || !(*authority == "-" || is_hex(authority)) {
            return Err(WRONG);
        }
        let authority = (*authority != "-").then(|| (*authority).to_owned());
        Ok(Self { id: (*id).to_owned(), secret: (*secret).to_owned(), authority })
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinToken({})", self.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_as_it_was_written() {
        for authority in [None, Some("00ff".to_owned())] {
            let token = JoinToken { id: "1a".into(), secret: "2b".into(), authority };
            assert_eq!(token.to_text().parse(), Ok(token));
        }
        for wrong in ["", "fapi_1_2_3", "fjoin_1_2", "fjoin_1_x_-", "fjoin_1_2_3_4"] {
            assert!(wrong.parse::<JoinToken>().is_err(), "{wrong}");
        }
        let shown = format!("{:?}", "fjoin_1a_2b_-".parse::<JoinToken>().unwrap());
        assert!(!shown.contains("2b"), "{shown}");
    }
}
