//! A node's end of the link in the hands of a test: it says what no honest node would.

use ferry_common::{
    link::{self, JoinServiceClient, NodeServiceClient},
    trust::{ClientIdentity, Dialer, Trust, read_certificates},
    wire::generated as pb,
};
use rcgen::{CertificateParams, KeyPair};
use rustls::{
    crypto::ring::sign::any_supported_type,
    pki_types::{CertificateDer, PrivateKeyDer},
    sign::CertifiedKey,
};
use std::{path::Path, sync::Arc};
use tonic::{Status, transport::Channel};

/// What a node gets with a file to copy, where each blob has a signature of its own.
#[derive(Debug, Clone)]
pub struct Granted {
    /// Address of the container.
    pub container: String,
    key: pb::AttemptKey,
    /// Of the first chunks, what goes behind each blob's address.
    pub queries: Vec<String>,
}

impl Granted {
    /// Address of the blob of a chunk of this attempt, or of one at another unit of another run.
    pub fn blob(&self, chunk: usize, other_unit: u64, other_run: Option<&str>) -> String {
        let run = other_run.unwrap_or(&self.key.run_id);
        format!("{}/{run}/{}/{}/{chunk}.csv.gz", self.container, self.key.unit + other_unit, self.key.attempt)
    }
}

/// Queries of blobs, by the parts that came.
fn queries(signatures: pb::BlobSignatures) -> Vec<String> {
    signatures.chunks.iter().map(|sig| format!("{}&sig={sig}", signatures.common)).collect()
}

/// Someone who speaks to the nodes' port of a secured coordinator.
pub struct Intruder {
    channel: Channel,
}

impl Intruder {
    /// Somebody without a certificate.
    ///
    /// # Panics
    /// When the authority cannot be read.
    pub fn stranger(grpc_port: u16, authority: &Path) -> Self {
        Self { channel: channel(grpc_port, authority, ClientIdentity::default()) }
    }

    /// Somebody who joined with a token.
    ///
    /// # Panics
    /// When the token is no good.
    pub async fn joined(grpc_port: u16, authority: &Path, token: &Path, runtime: &str) -> Self {
        let key = KeyPair::generate().expect("key");
        let request = CertificateParams::default().serialize_request(&key).expect("request").der().to_vec();
        let mut client = JoinServiceClient::new(channel(grpc_port, authority, ClientIdentity::default()));
        let token = std::fs::read_to_string(token).expect("token").trim().to_owned();
        let (runtime, name) = (runtime.to_owned(), "intruder".to_owned());
        let request = pb::JoinRequest { token, certificate_request: request, runtime, name };
        let answer = client.join(request).await.expect("joins").into_inner();
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("key");
        let chain = vec![CertificateDer::from(answer.certificate)];
        let identity = ClientIdentity::default();
        identity.set(Arc::new(CertifiedKey::new(chain, any_supported_type(&key).expect("key"))));
        Self { channel: channel(grpc_port, authority, identity) }
    }

    /// Registers under a node id, for an integration runtime, with these versions of the protocol. Gives the version agreed on.
    pub async fn register(&self, node: &str, runtime: &str, versions: (u32, u32)) -> Result<u32, Status> {
        let request = pb::RegisterRequest {
            node_id: node.to_owned(),
            name: "intruder".to_owned(),
            runtime: runtime.to_owned(),
            slots: 1,
            versions: Some(pb::VersionRange { min: versions.0, max: versions.1 }),
            program_version: "0".to_owned(),
            may_change_sources: false,
        };
        Ok(self.nodes().register(request).await?.into_inner().version)
    }

    /// Asks for work under a node id. Gives how many units it got.
    pub async fn ask(&self, node: &str) -> Result<usize, Status> {
        let request = pb::SyncRequest { node_id: node.to_owned(), free_slots: 1, ..pb::SyncRequest::default() };
        Ok(self.nodes().sync(request).await?.into_inner().grants.len())
    }

    /// Asks for work under a node id, as nodes of an older release do, and gives the signed address of the container that
    /// comes with a file to copy.
    ///
    /// # Panics
    /// When more comes with it.
    pub async fn staging_of_grant(&self, node: &str) -> Option<String> {
        let (_, target) = self.blob_target(node, false).await?;
        assert!(target.signatures.is_none(), "an older node cannot read it");
        Some(target.container_sas_url)
    }

    /// Asks for work under a node id, and gives what comes with a file to copy.
    ///
    /// # Panics
    /// When that opens the container.
    pub async fn blobs_of_grant(&self, node: &str) -> Option<Granted> {
        let (key, target) = self.blob_target(node, true).await?;
        assert!(!target.container_sas_url.contains('?'), "the container is signed");
        Some(Granted { container: target.container_sas_url, key, queries: queries(target.signatures?) })
    }

    async fn blob_target(&self, node: &str, by_blob: bool) -> Option<(pb::AttemptKey, pb::AzureBlobTarget)> {
        let request = pb::SyncRequest {
            node_id: node.to_owned(),
            free_slots: 1,
            takes_blob_signatures: by_blob,
            ..pb::SyncRequest::default()
        };
        let answer = self.nodes().sync(request).await.ok()?.into_inner();
        answer.grants.into_iter().find_map(|grant| match grant.work? {
            pb::grant::Work::Copy(work) => match work.staging?.kind? {
                pb::staging_target::Kind::AzureBlob(target) => Some((grant.key?, target)),
                pb::staging_target::Kind::FileSystem(_) => None,
            },
            pb::grant::Work::List(_) | pb::grant::Work::Clear(_) => None,
        })
    }

    /// Asks for signatures of more blobs of what it was granted, with another unit's number and, if asked to, another token.
    /// Gives those of chunks.
    ///
    /// # Panics
    /// When it is not answered.
    pub async fn more_blobs(
        &self,
        node: &str,
        granted: &Granted,
        (first_chunk, chunks): (u32, u32),
        other_unit: u64,
        token: Option<&str>,
    ) -> Vec<String> {
        let mut key = granted.key.clone();
        key.unit += other_unit;
        if let Some(token) = token {
            token.clone_into(&mut key.lease_token);
        }
        let blobs = Some(pb::BlobAsk { first_chunk, chunks });
        // The lease that it has is renewed beside it.
        let own = pb::Renewal { key: Some(granted.key.clone()), ..pb::Renewal::default() };
        let request = pb::SyncRequest {
            node_id: node.to_owned(),
            takes_blob_signatures: true,
            renewals: vec![own, pb::Renewal { key: Some(key), blobs, ..pb::Renewal::default() }],
            ..pb::SyncRequest::default()
        };
        let answer = self.nodes().sync(request).await.expect("an answer").into_inner();
        answer.signed.into_iter().filter_map(|signed| signed.signatures).flat_map(queries).collect()
    }

    /// Reports, under a node id, that an attempt of another node has failed for good. Gives whether that was refused.
    pub async fn report_failed(&self, node: &str, run: &str, unit: u64, token: &str) -> Result<bool, Status> {
        let key = pb::AttemptKey { run_id: run.to_owned(), unit, attempt: 1, lease_token: token.to_owned() };
        let failure = ferry_common::failure::Failure::internal("made up").into();
        let report = pb::Report { sequence: 1, key: Some(key), event: Some(pb::report::Event::AttemptFailed(failure)) };
        let request = pb::SyncRequest { node_id: node.to_owned(), reports: vec![report], ..pb::SyncRequest::default() };
        let answer = self.nodes().sync(request).await?.into_inner();
        Ok(answer.acks.first().is_some_and(|ack| ack.refused))
    }

    /// Says goodbye in a node's name.
    pub async fn leave(&self, node: &str) -> Result<(), Status> {
        self.nodes().leave(pb::LeaveRequest { node_id: node.to_owned() }).await.map(drop)
    }

    /// Asks for a newer certificate.
    pub async fn renew(&self) -> Result<(), Status> {
        let key = KeyPair::generate().expect("key");
        let request = CertificateParams::default().serialize_request(&key).expect("request").der().to_vec();
        let mut client = JoinServiceClient::new(self.channel.clone());
        client.renew(pb::RenewRequest { certificate_request: request }).await.map(drop)
    }

    fn nodes(&self) -> NodeServiceClient<Channel> {
        link::client_over(self.channel.clone())
    }
}

fn channel(grpc_port: u16, authority: &Path, identity: ClientIdentity) -> Channel {
    let trust = Trust::Authorities(read_certificates(authority).expect("authority"));
    let dialer = Dialer::new(&trust, identity).expect("trust");
    link::channel(&format!("https://localhost:{grpc_port}"), dialer).expect("address")
}
