use super::*;

const GOOD: &str = "
name: taxi
source:
  type: FileSystem
  folderPath: /exports
  wildcardFileName: '**/*.csv'
  format: {type: DelimitedText, firstRowAsHeader: true}
sink:
  type: AzureDataExplorer
  endpoint: http://127.0.0.1:7490
  database: Rides
  table: Taxi
  createTable: true
  mapping: {by: name}
staging: {type: FileSystem, folderPath: /tmp/staging}
settings: {chunkSizeMB: 0.5}
";

#[test]
fn an_activity_reads_back_as_it_was_written() {
    let activity = Activity::parse(GOOD, "a.yaml").unwrap();
    assert_eq!(activity.settings.chunk_bytes_max(), 500_000);
    assert_eq!(activity.source.connect_via, RuntimeName::default());
    let json = serde_json::to_string(&activity).unwrap();
    assert_eq!(Activity::parse(&json, "json").unwrap(), activity);
}

#[test]
fn a_bad_activity_is_told_with_line_and_nearest_key() {
    for (case, from, to, words) in [
        (
            "unknown key",
            "folderPath: /exports",
            "folderpath: /exports",
            &["line 5", "folderpath", "did you mean folderPath?"][..],
        ),
        ("wrong type", "createTable: true", "createTable: perhaps", &["line 13"]),
        ("unknown enum", "type: DelimitedText", "type: DelimitdText", &["line 7", "did you mean DelimitedText?"]),
        ("missing key", "  folderPath: /exports\n", "", &["folderPath"]),
        ("the old name", "AzureDataExplorer", "Kusto", &["AzureDataExplorer"]),
        ("a relative folder", "/exports", "exports", &["source.folderPath", "absolute"]),
        ("two-byte quote", "firstRowAsHeader: true", "quoteChar: ';;'", &["quoteChar"]),
        ("delimiter in the quote", "firstRowAsHeader: true", "columnDelimiter: '\"'", &["columnDelimiter"]),
        ("another format's key", "firstRowAsHeader: true", "sheetName: x", &["sheetName", "Excel"]),
        ("limit without skipping", "0.5", "0.5, skipRowsMax: 3", &["enableSkipIncompatibleRow"]),
        ("no chunk size", "0.5", "0", &["chunkSizeMB"]),
        (
            "a day from lines",
            "{type: DelimitedText, firstRowAsHeader: true}\nsink:\n",
            "{type: TextLines}\nsink:\n  creationTime: {column: a}\n",
            &["sink.creationTime.column", "TextLines", "pathPattern"],
        ),
        ("not built yet", "createTable: true", "ingestion: queued", &["sink.ingestion"]),
        (
            "a mapping that a staging table lacks",
            "mapping: {by: name}",
            "mapping: {reference: m}\n  publish: replace",
            &["sink.mapping.reference", "sink.mapping.columns"],
        ),
    ] {
        let text = GOOD.replace(from, to);
        assert_ne!(text, GOOD, "{case}");
        let failure = Activity::parse(&text, "a.yaml").unwrap_err();
        assert_eq!(failure.code, Code::SettingsInvalid);
        for word in words {
            assert!(failure.message.contains(word), "{case}: {}", failure.message);
        }
        assert!(failure.message.starts_with("a.yaml: "), "{case}: {}", failure.message);
    }
}

#[test]
fn a_missing_secret_is_named() {
    let failure = SecretRef { secret: "env:FERRY_NO_SUCH_VARIABLE".to_owned() }.resolve().unwrap_err();
    assert_eq!(failure.code, Code::SecretMissing);
    assert!(failure.message.contains("FERRY_NO_SUCH_VARIABLE"));
}

#[test]
fn what_opens_storage_goes_to_storage_alone() {
    let auth = "auth: {type: managedIdentity}";
    let sas = "sas: {secret: 'env:S'}";
    let key = "accountKey: {secret: 'env:K'}";
    for (container, by, is_good) in [
        ("https://acct.blob.core.windows.net/c", auth, true),
        ("https://acct.blob.core.chinacloudapi.cn/c", sas, true),
        ("http://127.0.0.1:10000/devstoreaccount1/c", sas, true),
        ("https://localhost:10000/devstoreaccount1/c", auth, true),
        ("http://acct.blob.core.windows.net/c", auth, false),
        ("https://evil.example/c", auth, false),
        ("https://evil.example/c", sas, false),
        ("https://acct.blob.core.windows.net.evil.example/c", auth, false),
        ("https://acct.blob.core.windows.net@evil.example/c", auth, false),
        ("https://user@acct.blob.core.windows.net/c", auth, false),
        ("https://127.0.0.1.evil.example/c", sas, false),
        // The key stays: what it signs is for one account.
        ("https://storage.example/c", key, true),
    ] {
        let staging = format!("staging: {{type: AzureBlob, container: '{container}', {by}}}");
        let text = GOOD.replace("staging: {type: FileSystem, folderPath: /tmp/staging}", &staging);
        assert_eq!(Activity::parse(&text, "a.yaml").is_ok(), is_good, "{container} {by}");
    }
    for (staging, is_good) in [
        ("{type: FromCluster}", true),
        ("{type: FromCluster, integrity: md5}", true),
        ("{type: FromCluster, container: 'https://a.blob.core.windows.net/c'}", false),
        ("{type: FromCluster, sas: {secret: 'env:S'}}", false),
        ("{type: FromCluster, folderPath: /tmp/staging}", false),
    ] {
        for ingestion in ["direct", "queued"] {
            let text = GOOD.replace("{type: FileSystem, folderPath: /tmp/staging}", staging);
            let text = text.replace("createTable: true", &format!("ingestion: {ingestion}"));
            assert_eq!(Activity::parse(&text, "a.yaml").is_ok(), is_good, "{staging} {ingestion}");
        }
    }
    for wrong in ["auth: {type: none}", "auth: {type: managedIdentity, tenant: t}", "auth: {type: servicePrincipal}"] {
        let staging = format!("staging: {{type: AzureBlob, container: 'https://a.blob.core.windows.net/c', {wrong}}}");
        let text = GOOD.replace("staging: {type: FileSystem, folderPath: /tmp/staging}", &staging);
        assert!(Activity::parse(&text, "a.yaml").is_err(), "{wrong}");
    }
}

#[test]
fn a_sign_in_stands_on_one_secret_that_is_named() {
    let principal = |more: &str| format!("auth: {{type: servicePrincipal, tenant: t, servicePrincipalId: i{more}}}");
    let key = ", servicePrincipalKey: {secret: 'env:K'}";
    let certificate = ", servicePrincipalCertificate: {secret: 'file:/etc/ferry/application.pem'}";
    let vault = ", servicePrincipalKey: {secret: 'keyvault:https://v.vault.azure.net/secrets/k'}";
    for (case, auth, words) in [
        ("a secret", principal(key), None),
        ("a certificate", principal(certificate), None),
        ("a secret in a vault", principal(vault), None),
        ("both", principal(&format!("{key}{certificate}")), Some("servicePrincipalKey or servicePrincipalCertificate")),
        ("neither", principal(""), Some("servicePrincipalKey or servicePrincipalCertificate")),
        (
            "a certificate for no application",
            format!("auth: {{type: managedIdentity{certificate}}}"),
            Some("servicePrincipalCertificate does not go with"),
        ),
        (
            "a secret as it is",
            principal(", servicePrincipalKey: {secret: hunter2}"),
            Some("sink.auth.servicePrincipalKey: a secret must be named"),
        ),
        (
            "a vault of somebody else",
            principal(", servicePrincipalKey: {secret: 'keyvault:https://evil.example/secrets/k'}"),
            Some("sink.auth.servicePrincipalKey: keyvault:"),
        ),
    ] {
        let text = GOOD.replace("  createTable: true", &format!("  createTable: true\n  {auth}"));
        let parsed = Activity::parse(&text, "a.yaml");
        match words {
            None => assert!(parsed.is_ok(), "{case}: {parsed:?}"),
            Some(words) => {
                let message = parsed.unwrap_err().message;
                assert!(message.contains(words) && !message.contains("hunter2"), "{case}: {message}");
            }
        }
    }
}

#[test]
fn a_secret_in_a_vault_is_no_matter_of_this_program() {
    let reference = SecretRef { secret: "keyvault:https://v.vault.azure.net/secrets/k".to_owned() };
    let failure = reference.resolve().unwrap_err();
    assert_eq!(failure.code, Code::SecretMissing);
    assert!(failure.message.contains("asked by the coordinator"), "{}", failure.message);
}
