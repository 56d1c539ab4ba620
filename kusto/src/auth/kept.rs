//! Keeps tokens for credentials that would ask each time.

use azure_core::{
    credentials::{AccessToken, TokenCredential, TokenRequestOptions},
    time::{Duration, OffsetDateTime},
};
use std::{collections::HashMap, sync::Arc};
use tokio::sync::Mutex;

/// A token is asked for anew when it is good no longer than this.
const LEFT_MIN: Duration = Duration::minutes(5);

/// A credential and the tokens that it gave, by what they are for.
#[derive(Debug)]
pub(super) struct Kept {
    from: Arc<dyn TokenCredential>,
    tokens: Mutex<HashMap<String, AccessToken>>,
}

impl Kept {
    pub(super) fn new(from: Arc<dyn TokenCredential>) -> Self {
        Self { from, tokens: Mutex::default() }
    }
}

#[async_trait::async_trait]
impl TokenCredential for Kept {
    /// One asks, the others wait for what it gets.
    async fn get_token(
        &self,
        scopes: &[&str],
        options: Option<TokenRequestOptions<'_>>,
    ) -> azure_core::Result<AccessToken> {
        let of = scopes.join(" ");
        let mut tokens = self.tokens.lock().await;
        if let Some(token) = tokens.get(&of)
            && OffsetDateTime::now_utc() + LEFT_MIN < token.expires_on
        {
            return Ok(token.clone());
        }
        let token = self.from.get_token(scopes, options).await?;
        tokens.insert(of, token.clone());
        Ok(token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    /// Counts how often it is asked; what it gives ends after so many minutes.
    #[derive(Debug)]
    struct Asked(AtomicU32, i64);

    #[async_trait::async_trait]
    impl TokenCredential for Asked {
        async fn get_token(
            &self,
            scopes: &[&str],
            _options: Option<TokenRequestOptions<'_>>,
        ) -> azure_core::Result<AccessToken> {
            self.0.fetch_add(1, Ordering::Relaxed);
            Ok(AccessToken::new(scopes.join(" "), OffsetDateTime::now_utc() + Duration::minutes(self.1)))
        }
    }

    #[tokio::test]
    async fn a_token_that_is_good_for_a_while_is_not_asked_for_again() {
        for (minutes, asked) in [(60, 2), (4, 4)] {
            let from = Arc::new(Asked(AtomicU32::new(0), minutes));
            let kept = Kept::new(from.clone());
            for scope in ["a", "a", "b", "b"] {
                assert_eq!(kept.get_token(&[scope], None).await.unwrap().token.secret(), scope);
            }
            assert_eq!(from.0.load(Ordering::Relaxed), asked, "{minutes} minutes");
        }
    }
}
