//! The secrets that activities name: variables and files are read each time, vaults asked at times. What they gave is in memory
//! alone.

use crate::vault::Vaults;
use ferry_common::{
    activity::{Secret, SecretPlace, SecretRef},
    failure::{Code, Failure, Fault, Retry},
    vault::VaultSecret,
};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// How long a secret of a vault is believed.
const AGE_MAX: Duration = Duration::from_secs(300);
/// How long it serves where the vault cannot be asked.
const AGE_UNASKED_MAX: Duration = Duration::from_secs(3600);
/// How long whoever needs a secret waits for a vault: nodes wait behind it.
const PATIENCE: Duration = Duration::from_secs(3);
/// Whoever asks within this time of a failure hears of it, and does not ask again.
const FAILURE_AGE_MAX: Duration = Duration::from_secs(5);
/// Secrets of vaults that are remembered.
const PLACES_MAX: usize = 1_000;

/// One secret of a vault.
#[derive(Default)]
struct Place {
    known: Mutex<Option<(Secret, Instant)>>,
    /// Whoever asks holds it. Why there was nothing, and when that was.
    asking: tokio::sync::Mutex<Option<(Failure, Instant)>>,
}

/// Every secret that was asked for.
#[derive(Default)]
pub(crate) struct Secrets {
    vaults: Arc<Vaults>,
    places: Mutex<HashMap<VaultSecret, Arc<Place>>>,
}

impl Secrets {
    /// The secret that a reference names. Fails with [`Code::SecretMissing`], naming the reference and never the secret.
    pub(crate) async fn resolve(&self, reference: &SecretRef) -> Result<Secret, Failure> {
        let Ok(SecretPlace::Vault(at)) = reference.place() else { return reference.resolve() };
        let place = {
            let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
            if places.len() >= PLACES_MAX {
                places.clear();
            }
            places.entry(at.clone()).or_default().clone()
        };
        if let Some(secret) = place.known(AGE_MAX) {
            return Ok(secret);
        }
        let (vaults, asked) = (self.vaults.clone(), place.clone());
        // It goes on when nobody waits for it any more: the next one who asks finds what it got.
        let asked = tokio::spawn(async move { asked.ask(&vaults, &at).await });
        // What was good a while ago serves meanwhile: nodes wait behind it.
        if let Some(secret) = place.known(AGE_UNASKED_MAX) {
            return Ok(secret);
        }
        match tokio::time::timeout(PATIENCE, asked).await {
            Ok(Ok(result)) => result,
            Ok(Err(e)) => Err(Failure::internal(e.to_string())),
            Err(_) => {
                let message = format!("secret {}: no answer within {PATIENCE:?}; it is asked on", reference.secret);
                Err(Failure::new(Code::SecretMissing, Fault::Settings, Retry::Backoff, message))
            }
        }
    }
}

impl Place {
    /// What was got, if that is no longer ago.
    fn known(&self, age_max: Duration) -> Option<Secret> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.as_ref().filter(|(_, at)| at.elapsed() < age_max).map(|(secret, _)| secret.clone())
    }

    fn keep(&self, secret: Option<Secret>) {
        let kept = secret.map(|secret| (secret, Instant::now()));
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = kept;
    }

    /// One asks, the others wait for what it gets.
    async fn ask(&self, vaults: &Vaults, at: &VaultSecret) -> Result<Secret, Failure> {
        let mut asking = self.asking.lock().await;
        if let Some(secret) = self.known(AGE_MAX) {
            return Ok(secret);
        }
        let lately = asking.as_ref().filter(|(_, since)| since.elapsed() < FAILURE_AGE_MAX);
        let failure = match lately.map(|(failure, _)| failure.clone()) {
            Some(failure) => failure,
            None => match vaults.ask(at).await {
                Ok(secret) => {
                    *asking = None;
                    self.keep(Some(secret.clone()));
                    return Ok(secret);
                }
                Err(failure) => {
                    *asking = Some((failure.clone(), Instant::now()));
                    failure
                }
            },
        };
        if failure.retry == Retry::Never {
            // Whoever took it away meant that.
            self.keep(None);
            return Err(failure);
        }
        match self.known(AGE_UNASKED_MAX) {
            Some(secret) => {
                tracing::warn!("a secret goes on as it was: {}", failure.message);
                Ok(secret)
            }
            None => Err(failure),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_a_vault_gave_is_believed_for_a_while() {
        let place = Place::default();
        assert!(place.known(AGE_MAX).is_none());
        place.keep(Some(Secret::new("s".into())));
        assert!(place.known(AGE_MAX).is_some());
        tokio::time::advance(AGE_MAX).await;
        assert!(place.known(AGE_MAX).is_none());
        assert!(place.known(AGE_UNASKED_MAX).is_some());
        tokio::time::advance(AGE_UNASKED_MAX).await;
        assert!(place.known(AGE_UNASKED_MAX).is_none());
    }

    #[tokio::test]
    async fn what_no_vault_has_is_read_as_ever() {
        let secrets = Secrets::default();
        let missing = SecretRef { secret: "env:FERRY_NO_SUCH_VARIABLE".to_owned() };
        let failure = secrets.resolve(&missing).await.unwrap_err();
        assert!(failure.message.contains("FERRY_NO_SUCH_VARIABLE"), "{}", failure.message);
        let elsewhere = SecretRef { secret: "keyvault:https://evil.example/secrets/k".to_owned() };
        let failure = secrets.resolve(&elsewhere).await.unwrap_err();
        assert!(failure.message.contains(".vault.azure.net"), "{}", failure.message);
    }
}
