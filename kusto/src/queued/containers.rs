//! Containers that the data management service lends: for blobs of whoever has no storage account.

use super::{NO_DATABASE, field, resources::Place, text_of};
use crate::{Client, Engine as _, KustoError, RequestId, auth, commands::Command};
use serde_json::Value;
use std::fmt;

/// A container with the signature that the service gave for it. The signature is not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct LentContainer(Place);

impl LentContainer {
    /// Takes a signed address apart; `None` if it is none, or not one that a signature may be sent to.
    pub fn parse(signed: &str) -> Option<Self> {
        let place = Place::parse(signed)?;
        let url = reqwest::Url::parse(&place.name).ok()?;
        let is_safe = url.scheme() == "https" || url.host_str().is_some_and(auth::is_loopback);
        (is_safe && !url.path().trim_matches('/').is_empty()).then_some(Self(place))
    }

    /// Its address, without the signature.
    pub fn address(&self) -> &str {
        &self.0.name
    }

    /// The signature, as a query.
    pub fn signature(&self) -> &str {
        self.0.signature()
    }
}

impl fmt::Debug for LentContainer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LentContainer({})", self.address())
    }
}

/// Asks the data management service beside the cluster of `client` which containers it lends. There may be none.
///
/// Needs the right to ingest into any table of the cluster. Source: what Microsoft's client libraries send; newer ones ask for
/// the configuration of the REST form.
pub async fn lent_containers(client: &Client) -> Result<Vec<LentContainer>, KustoError> {
    let service = client.data_management();
    let (command, id) = (Command::plain(".get ingestion resources"), RequestId::generate("resources"));
    let refused = match service.command(NO_DATABASE, &command, &id).await {
        Ok(reply) => {
            let table = reply.table;
            let rows = table.rows.iter().filter(|row| table.text(row, "ResourceTypeName") == "TempStorage");
            let lent: Vec<_> = rows.filter_map(|row| LentContainer::parse(table.text(row, "StorageRoot"))).collect();
            if !lent.is_empty() {
                return Ok(lent);
            }
            None
        }
        // A newer service may not know the command.
        Err(KustoError::Service(e)) if !e.is_forbidden() && matches!(e.status, 400 | 404 | 405 | 501) => {
            Some(KustoError::Service(e))
        }
        Err(error) => return Err(error),
    };
    match service.get(service.url_of(&["v1", "rest", "ingestion", "configuration"])?).await {
        Ok(configuration) => Ok(of_configuration(&configuration)),
        // An older one has no such address: what it said first counts.
        Err(KustoError::Service(e)) if matches!(e.status, 400 | 404 | 405 | 501) => match refused {
            Some(error) => Err(error),
            None => Ok(Vec::new()),
        },
        Err(error) => Err(error),
    }
}

fn of_configuration(configuration: &Value) -> Vec<LentContainer> {
    let settings = field(configuration, "containerSettings");
    let containers = settings.and_then(|settings| field(settings, "containers")).and_then(Value::as_array);
    let containers = containers.map(Vec::as_slice).unwrap_or_default();
    containers.iter().filter_map(|container| LentContainer::parse(text_of(container, "path"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_containers_signature_is_apart_and_not_shown() {
        let lent = LentContainer::parse("https://a.blob.core.windows.net/temp/?sv=1&sig=SECRET").unwrap();
        assert_eq!(lent.address(), "https://a.blob.core.windows.net/temp");
        assert_eq!(lent.signature(), "sv=1&sig=SECRET");
        assert!(!format!("{lent:?}").contains("SECRET"));
        assert!(LentContainer::parse("http://127.0.0.1:10000/devstoreaccount1/temp?sig=s").is_some());
        for bad in
            ["", "https://a.blob.core.windows.net/temp", "http://a.example/temp?sig=s", "https://a.example/?sig=s"]
        {
            assert!(LentContainer::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn containers_are_found_in_the_configuration_whatever_its_letters() {
        for (outer, inner) in [("containerSettings", "containers"), ("ContainerSettings", "Containers")] {
            let path = json!([{"path": "https://a/c?sig=s"}, {"Path": "nonsense"}, {}]);
            let found = of_configuration(&json!({outer: {inner: path}}));
            assert_eq!(found.iter().map(LentContainer::address).collect::<Vec<_>>(), ["https://a/c"]);
        }
        assert_eq!(of_configuration(&json!({"containerSettings": {"lakeFolders": []}})), []);
    }
}
