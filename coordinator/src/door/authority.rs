//! The coordinators' own certificate authority: signs nodes in, and the server's certificate where none is given.

use super::DoorError;
use ferry_common::trust::{self, NodeIdentity};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData as _, SanType,
};
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer, PrivateKeyDer};
use std::{
    fs,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    time::{Duration, SystemTime},
};

const CERTIFICATE_FILE: &str = "ca.crt";
const KEY_FILE: &str = "ca.key";
/// How long the authority itself holds.
const AUTHORITY_TTL: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// Certificates begin to hold a while before they are made: clocks differ.
const CLOCKS_APART: Duration = Duration::from_secs(3600);

/// The authority.
pub(crate) struct Authority {
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate, its key, and how long it holds from now on.
pub(super) struct Issued {
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: PrivateKeyDer<'static>,
}

impl Authority {
    /// Opens the authority of a folder; makes folder and authority when they are not there.
    pub(crate) fn open(folder: &Path) -> Result<Self, DoorError> {
        let (certificate_path, key_path) = (folder.join(CERTIFICATE_FILE), folder.join(KEY_FILE));
        if !key_path.exists() && !certificate_path.exists() {
            make(folder)?;
        }
        let certificate = trust::read_certificates(&certificate_path).map_err(|e| bad(&e))?.swap_remove(0);
        let key = fs::read_to_string(&key_path).map_err(|e| DoorError::file(&key_path, e))?;
        let key = KeyPair::from_pem(&key).map_err(|e| DoorError::file(&key_path, e))?;
        let issuer = Issuer::from_ca_cert_der(&certificate, key).map_err(|e| DoorError::file(certificate_path, e))?;
        Ok(Self { certificate, issuer })
    }

    pub(crate) fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    pub(crate) fn fingerprint(&self) -> String {
        trust::fingerprint(&self.certificate)
    }

    /// A client certificate for the key of a request. Nothing else of the request is looked at.
    pub(crate) fn sign_node(
        &self,
        request: Vec<u8>,
        identity: &NodeIdentity,
        ttl: Duration,
    ) -> Result<CertificateDer<'static>, DoorError> {
        let request = parsed(request)?;
        let mut params = leaf(identity.id.as_str(), ttl, ExtendedKeyUsagePurpose::ClientAuth);
        let uri = identity.to_uri().try_into().map_err(|e| bad(&e))?;
        params.subject_alt_names.push(SanType::URI(uri));
        let signed = params.signed_by(&request.public_key, &self.issuer).map_err(|e| bad(&e))?;
        Ok(signed.der().clone())
    }

    /// A server certificate with a new key for these names, and the authority behind it.
    pub(super) fn issue_server(&self, names: &[String], ttl: Duration) -> Result<Issued, DoorError> {
        let key = KeyPair::generate().map_err(|e| bad(&e))?;
        let mut params = leaf("ferry coordinator", ttl, ExtendedKeyUsagePurpose::ServerAuth);
        for name in names {
            let wrong = |e: &dyn std::fmt::Display| DoorError::Certificate(format!("--tls-name {name}: {e}"));
            params.subject_alt_names.push(match name.parse() {
                Ok(ip) => SanType::IpAddress(ip),
                Err(_) => SanType::DnsName(name.as_str().try_into().map_err(|e| wrong(&e))?),
            });
        }
        let signed = params.signed_by(&key, &self.issuer).map_err(|e| bad(&e))?;
        let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(|e| bad(&e))?;
        Ok(Issued { chain: vec![signed.der().clone(), self.certificate.clone()], key })
    }
}

fn parsed(request: Vec<u8>) -> Result<CertificateSigningRequestParams, DoorError> {
    CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(request))
        .map_err(|e| DoorError::Certificate(format!("certificate request: {e}")))
}

/// The public key in a certificate request.
pub(super) fn public_key(request: &[u8]) -> Result<Vec<u8>, DoorError> {
    Ok(parsed(request.to_vec())?.public_key.subject_public_key_info())
}

fn bad(error: &dyn std::fmt::Display) -> DoorError {
    DoorError::Certificate(error.to_string())
}

fn named(name: &str) -> DistinguishedName {
    let mut names = DistinguishedName::new();
    names.push(DnType::CommonName, name);
    names
}

fn holding(params: &mut CertificateParams, ttl: Duration) {
    let now = SystemTime::now();
    params.not_before = (now - CLOCKS_APART).into();
    params.not_after = (now + ttl).into();
}

fn leaf(name: &str, ttl: Duration, purpose: ExtendedKeyUsagePurpose) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = named(name);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![purpose];
    params.use_authority_key_identifier_extension = true;
    holding(&mut params, ttl);
    params
}

fn make(folder: &Path) -> Result<(), DoorError> {
    fs::create_dir_all(folder).map_err(|e| DoorError::file(folder, e))?;
    let key = KeyPair::generate().map_err(|e| bad(&e))?;
    let mut params = CertificateParams::default();
    params.distinguished_name = named(&format!("ferry {}", uuid::Uuid::new_v4().simple()));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    holding(&mut params, AUTHORITY_TTL);
    let certificate = params.self_signed(&key).map_err(|e| bad(&e))?;
    // The key first: with a key and no certificate the next start says what is missing, and signs nobody in.
    write_secret(&folder.join(KEY_FILE), &key.serialize_pem())?;
    let path = folder.join(CERTIFICATE_FILE);
    fs::write(&path, certificate.pem()).map_err(|e| DoorError::file(path, e))
}

/// Writes a file that only its owner may read, as a whole or not at all.
pub(super) fn write_secret(path: &Path, text: &str) -> Result<(), DoorError> {
    let part = path.with_extension("part");
    let write = || {
        // Left by a start that was cut off.
        let _ = fs::remove_file(&part);
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&part, path)
    };
    write().map_err(|e| DoorError::file(path, e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ferry_common::id::IdentityId;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn the_authority_stays_the_same_and_its_key_is_its_owners() {
        let folder = tempfile::tempdir().unwrap();
        let first = Authority::open(folder.path()).unwrap().fingerprint();
        assert_eq!(Authority::open(folder.path()).unwrap().fingerprint(), first);
        let mode = fs::metadata(folder.path().join(KEY_FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        fs::remove_file(folder.path().join(CERTIFICATE_FILE)).unwrap();
        assert!(Authority::open(folder.path()).is_err(), "a key alone is not made a new authority of");
    }

    #[test]
    fn what_a_node_asks_to_be_called_is_not_looked_at() {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::open(folder.path()).unwrap();
        let identity = NodeIdentity { id: IdentityId::generate(), runtime: "onprem".parse().unwrap() };
        let mut wish = CertificateParams::new(["coordinator".to_owned()]).unwrap();
        wish.subject_alt_names.push(SanType::URI("ferry://node/other/1".try_into().unwrap()));
        let request = wish.serialize_request(&KeyPair::generate().unwrap()).unwrap();
        let signed = authority.sign_node(request.der().to_vec(), &identity, Duration::from_secs(60)).unwrap();
        let certificate = webpki::EndEntityCert::try_from(&signed).unwrap();
        assert_eq!(certificate.valid_uri_names().collect::<Vec<_>>(), [identity.to_uri()]);
        assert_eq!(certificate.valid_dns_names().count(), 0);
        assert!(authority.sign_node(b"nonsense".to_vec(), &identity, Duration::from_secs(60)).is_err());
    }
}
