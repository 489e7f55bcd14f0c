//! The rules of the layers, without a process: files, variables and flags are given as values.

use super::*;

fn with_file(text: &str) -> Result<Config, String> {
    assemble(Some(("eds.toml", text)), &BTreeMap::new(), &Flags::default())
}

fn with_variables(pairs: &[(&str, &str)]) -> Result<Config, String> {
    let variables = pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    assemble(None, &variables, &Flags::default())
}

fn refusal(result: Result<Config, String>) -> String {
    result.map(|_| ()).expect_err("must be refused")
}

#[test]
fn the_defaults_are_complete_and_pass_the_check() {
    let config = Config::defaults().unwrap();
    assert_eq!(config.server.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(config.server.body_bytes_max, 32 * 1024 * 1024);
    assert!(!config.server.dev && config.database.url.is_empty() && config.delivery.region.is_empty());
    assert_eq!(config.search.total_default, sections::Total::None);
}

#[test]
fn every_key_of_the_file_is_read_and_every_key_read_is_in_the_file() {
    // Unknown keys are refused by the types (deny_unknown_fields), so each key is a field; without a key its field is missing.
    for (section, keys) in &defaults().unwrap() {
        for key in keys.as_table().unwrap().keys() {
            let mut table = defaults().unwrap();
            table.get_mut(section).unwrap().as_table_mut().unwrap().remove(key);
            assert!(table.try_into::<Config>().is_err(), "{section}.{key} is not read");
        }
    }
}

#[test]
fn every_key_has_a_comment_and_a_variable_of_its_own() {
    let mut names = std::collections::BTreeSet::new();
    for (section, keys) in &defaults().unwrap() {
        for key in keys.as_table().unwrap().keys() {
            assert!(names.insert(variable_name(section, key)), "{section}.{key} shares its variable");
        }
    }
    let lines: Vec<&str> = DEFAULT.lines().collect();
    for (i, line) in lines
        .iter()
        .enumerate()
        .filter(|(_, line)| line.contains(" = ") && !line.starts_with(['#', ' ']))
    {
        assert!(lines[i - 1].starts_with('#'), "no comment above {line}");
    }
}

#[test]
fn a_file_overrides_and_its_unknown_keys_are_named() {
    let config =
        with_file("[search]\npage_entries_max = 50\n[[delivery.region]]\ncode = \"120\"\nurl = \"http://127.0.0.1:9/fhir\"").unwrap();
    assert_eq!(config.search.page_entries_max, 50);
    assert_eq!(config.delivery.region[0].code, "120");
    assert!(refusal(with_file("[search]\npage_max = 1")).contains("eds.toml: search.page_max"));
    assert!(refusal(with_file("[serch]\nx = 1")).contains("serch"));
    assert!(refusal(with_file("server = 1")).contains("[server]"));
    assert!(refusal(with_file("[[delivery.region]]\ncode = \"120\"\nurl = \"http://a/b\"\nport = 1")).contains("port"));
    assert!(refusal(with_file("[search")).contains("eds.toml"));
}

#[test]
fn wrong_values_are_refused_and_the_key_is_named() {
    for (text, key) in [
        ("[server]\nlisten = \"localhost\"", "server.listen"),
        ("[metrics]\nlisten = \"9090\"", "metrics.listen"),
        ("[search]\nincludes_max = -1", "search.includes_max"),
        ("[search]\npage_entries_default = 2000", "search.page_entries_default"),
        ("[bundle]\nentries_max = 0", "bundle.entries_max"),
        ("[server]\ndev = \"yes\"", "server.dev"),
        ("[server]\nbase_url = \"https://eds.example/\"", "server.base_url"),
        ("[ingestion]\ncallback_url = \"ftp://a\"", "ingestion.callback_url"),
        ("[telemetry]\nlog_format = \"xml\"", "telemetry.log_format"),
        ("[telemetry]\ntrace_percent = 101", "telemetry.trace_percent"),
        ("[pertinence]\norder = [\"guess\"]", "pertinence.order"),
        ("[pertinence]\ndefault_region = \"Lazio\"", "pertinence.default_region"),
        ("[delivery]\nregion = [{ code = \"12\", url = \"http://a\" }]", "delivery.region"),
        ("[delivery]\nregion = [{ code = \"120\", url = \"a\" }]", "delivery.region"),
    ] {
        let error = refusal(with_file(text));
        assert!(error.contains(key), "{text}: {error}");
    }
    let error = refusal(with_file("[database]\nurl = \"mysql://u:geheim@h/d\""));
    assert!(error.contains("database.url") && !error.contains("geheim"), "{error}");
}

#[test]
fn variables_override_the_file_and_flags_override_variables() {
    let variables = BTreeMap::from([("EDS_LISTEN".to_owned(), "127.0.0.1:2".to_owned())]);
    let file = Some(("eds.toml", "[server]\nlisten = \"127.0.0.1:1\""));
    assert_eq!(assemble(file, &variables, &Flags::default()).unwrap().server.listen.port(), 2);
    let flags = Flags {
        listen: Some("127.0.0.1:3".to_owned()),
        dev: true,
        ..Flags::default()
    };
    let config = assemble(file, &variables, &flags).unwrap();
    assert_eq!((config.server.listen.port(), config.server.dev), (3, true));
}

#[test]
fn variables_of_all_kinds_are_read() {
    let regions = "[{ code = \"120\", url = \"http://127.0.0.1:9/fhir\" }]";
    let config = with_variables(&[
        ("EDS_DEV", "true"),
        ("EDS_DATABASE_URL", "postgres://u:geheim@h/d"),
        ("EDS_SEARCH_PAGE_ENTRIES_MAX", "99"),
        ("EDS_DELIVERY_REGION", regions),
        ("EDS_SERCH_X", "1"),
    ])
    .unwrap();
    assert!(config.server.dev && config.search.page_entries_max == 99 && config.delivery.region.len() == 1);
    assert_eq!(config.unknown_variables, ["EDS_SERCH_X"]);
    assert!(!format!("{config:?}").contains("geheim"));
    assert!(refusal(with_variables(&[("EDS_DEV", "1")])).contains("EDS_DEV"));
}

#[test]
fn a_secret_may_stand_in_a_file() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "postgres://h/d\n").unwrap();
    let path = file.path().to_str().unwrap();
    assert_eq!(
        &*with_variables(&[("EDS_DATABASE_URL_FILE", path)]).unwrap().database.url,
        "postgres://h/d"
    );
    let both = [("EDS_DATABASE_URL_FILE", path), ("EDS_DATABASE_URL", "postgres://h/d")];
    assert!(refusal(with_variables(&both)).contains("EDS_DATABASE_URL_FILE"));
}

#[test]
fn serving_needs_dev_and_dev_needs_a_loopback_address() {
    let serve = |listen: &str, dev: bool| {
        let flags = Flags {
            listen: Some(listen.to_owned()),
            dev,
            ..Flags::default()
        };
        assemble(None, &BTreeMap::new(), &flags).unwrap().may_serve()
    };
    assert!(serve("127.0.0.1:8080", true).is_ok() && serve("[::1]:8080", true).is_ok());
    assert!(serve("0.0.0.0:8080", true).unwrap_err().contains("--listen 127.0.0.1:8080"));
    assert!(serve("[::]:8080", true).is_err() && serve("10.0.0.1:8080", true).is_err());
    assert!(serve("127.0.0.1:8080", false).unwrap_err().contains("--dev"));
}
