//! Flags of `ferry coordinator` for tokens of an issuer of OpenID Connect.

use crate::output::CliError;
use clap::Args;
use ferry_coordinator::{OidcConfig, store::Role};

/// What roles are called in tokens, where nothing else is said.
const ROLES: [(&str, Role); 3] =
    [("ferry.viewer", Role::Viewer), ("ferry.operator", Role::Operator), ("ferry.admin", Role::Admin)];

/// Whose tokens are good for programs, beside ferry's own.
#[derive(Args)]
pub(crate) struct OidcArgs {
    /// Programs may also bring tokens of this issuer of OpenID Connect, such as
    /// https://login.microsoftonline.com/TENANT/v2.0: its address as its tokens have it.
    #[arg(long, env = "FERRY_OIDC_ISSUER", value_name = "URL", requires = "tls", requires = "oidc_audience")]
    oidc_issuer: Option<String>,
    /// What such tokens must be for (aud).
    #[arg(long, env = "FERRY_OIDC_AUDIENCE", value_name = "AUDIENCE", requires = "oidc_issuer")]
    oidc_audience: Option<String>,
    /// Claim of such a token that holds its roles: its name, or its path with dots, such as realm_access.roles.
    #[arg(long, env = "FERRY_OIDC_ROLE_CLAIM", default_value = "roles", value_name = "CLAIM")]
    oidc_role_claim: String,
    /// What a value of that claim is here: viewer, operator or admin; may be given more than once. Default:
    /// ferry.viewer=viewer, ferry.operator=operator, ferry.admin=admin.
    #[arg(long, env = "FERRY_OIDC_ROLES", value_name = "VALUE=ROLE", value_delimiter = ',', requires = "oidc_issuer")]
    oidc_role: Vec<String>,
}

impl OidcArgs {
    /// The issuer, if one is given.
    pub(crate) fn config(&self) -> Result<Option<OidcConfig>, CliError> {
        let (Some(issuer), Some(audience)) = (self.oidc_issuer.clone(), self.oidc_audience.clone()) else {
            return Ok(None);
        };
        OidcConfig::check_address(&issuer).map_err(|why| CliError::Usage(format!("--oidc-issuer {why}")))?;
        let roles: Result<Vec<_>, _> = self.oidc_role.iter().map(|text| role_of(text)).collect();
        let mut roles = roles.map_err(|why| CliError::Usage(format!("--oidc-role {why}")))?;
        if roles.is_empty() {
            roles = ROLES.map(|(value, role)| (value.to_owned(), role)).into();
        }
        Ok(Some(OidcConfig { issuer, audience, role_claim: self.oidc_role_claim.clone(), roles }))
    }
}

/// Reads `VALUE=ROLE`. Values may hold `=`, roles do not.
fn role_of(text: &str) -> Result<(String, Role), String> {
    let (value, role) = text.rsplit_once('=').ok_or_else(|| format!("{text:?} is not VALUE=ROLE"))?;
    if value.is_empty() {
        return Err(format!("{text:?} names no value"));
    }
    Ok((value.to_owned(), role.parse()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_a_claim_are_given_roles() {
        assert_eq!(role_of("ferry.viewer=viewer"), Ok(("ferry.viewer".to_owned(), Role::Viewer)));
        assert_eq!(role_of("cn=ops=admin"), Ok(("cn=ops".to_owned(), Role::Admin)));
        for wrong in ["viewer", "=viewer", "a=", "a=root", "a=Viewer"] {
            assert!(role_of(wrong).is_err(), "{wrong}");
        }
    }
}
