//! Tells who wants to know that a run has ended. It is stored with the end, and so outlives restarts; whoever drives the run
//! sends. Whether anybody listens makes no difference to the run.
//!
//! Nothing secret is sent: of the activity only its name and sink are in the message, and its key only signs. So any address
//! may be named, one inside the firewall too; what is answered there is not looked at but for its status.

use crate::{
    core::{ChangeError, Core},
    report,
    store::{RunRow, Telling},
};
use ferry_common::{
    activity::Webhook,
    failure::{Failure, backoff, with_causes},
};
use reqwest::{Client, header::CONTENT_TYPE, redirect::Policy};
use ring::hmac;
use serde_json::json;
use std::time::Duration;

/// Time for one try, and for its connection.
const TRY_TIMEOUT: Duration = Duration::from_secs(10);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const SIGNATURE_HEADER: &str = "x-ferry-signature";

/// Tries to tell of the end of a run, if it is time. Returns when to try again.
pub(super) async fn tell(core: &Core, run: &RunRow) -> Result<Option<Duration>, ChangeError> {
    let (Some(telling), Some(hook)) = (run.telling, &run.activity.settings.webhook) else { return Ok(None) };
    let now = core.now();
    if telling.not_before > now {
        return Ok(Some(telling.not_before.since(now)));
    }
    let failed = send(core, run, hook).await.err();
    let place = hook.place();
    let now = core.now();
    let wait = backoff(telling.failures + 1, spread_of(run));
    let next = match &failed {
        None => {
            tracing::info!(run = %run.id, place, "the webhook has heard of the end of the run");
            None
        }
        Some(why) if now.plus(wait) > telling.until => {
            tracing::warn!(run = %run.id, place, tries = telling.failures + 1, "the webhook was not reached: {why}");
            None
        }
        Some(why) => {
            tracing::info!(run = %run.id, place, "the webhook was not reached, trying again: {why}");
            Some(Telling { failures: telling.failures + 1, not_before: now.plus(wait), ..telling })
        }
    };
    core.change_run(&run.id, |mut row| {
        row.telling = next;
        if let (None, Some(why)) = (&next, &failed) {
            row.warnings.push(format!("settings.webhook: nobody heard of the end of this run at {place}: {why}"));
        }
        Ok(Some(row))
    })
    .await?;
    Ok(next.map(|_| wait))
}

/// A number between 0 and 1 that differs from run to run, so that many do not return at once.
fn spread_of(run: &RunRow) -> f64 {
    f64::from(run.id.as_str().bytes().fold(0_u8, u8::wrapping_add)) / 255.0
}

/// Sends it once. An error says why not, without the address's path, which may hold a token.
async fn send(core: &Core, run: &RunRow, hook: &Webhook) -> Result<(), String> {
    let view = report::run_view(core, run).await.map_err(|e| e.to_string())?;
    let body = json!({"event": "run.ended", "run": view}).to_string();
    let client = Client::builder()
        .redirect(Policy::none())
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(TRY_TIMEOUT)
        .build()
        .map_err(|e| with_causes(&e))?;
    let mut request = client.post(&hook.url).header(CONTENT_TYPE, "application/json");
    if let Some(secret) = &hook.secret {
        let key = secret.resolve().map_err(|failure: Failure| failure.message)?;
        request = request.header(SIGNATURE_HEADER, signature(key.expose().as_bytes(), body.as_bytes()));
    }
    let answer = request.body(body).send().await.map_err(|e| with_causes(&e.without_url()))?;
    let status = answer.status();
    if status.is_success() { Ok(()) } else { Err(format!("it answers HTTP {}", status.as_u16())) }
}

/// `sha256=` and the HMAC-SHA256 of the body, in hexadecimal digits.
fn signature(key: &[u8], body: &[u8]) -> String {
    let signed = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), body);
    let digits: String = signed.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256={digits}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 4231, test case 2.
    #[test]
    fn a_signature_is_the_hmac_of_the_body() {
        assert_eq!(
            signature(b"Jefe", b"what do ya want for nothing?"),
            "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }
}
