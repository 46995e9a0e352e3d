//! What a configuration that is read again would change.

use super::Config;

impl Config {
    /// The sections, and the keys beside them, that say something else in another configuration.
    /// Tokens aside, which need no restart.
    #[must_use]
    pub fn differing(&self, other: &Self) -> Vec<&'static str> {
        let Self {
            catalog,
            rates,
            server,
            admin,
            store,
            backup,
            dedupe,
            limits,
            network,
            click,
            inbound,
            privacy,
            retention,
            log,
        } = self;
        let same = [
            ("catalog", *catalog == other.catalog),
            ("rates", *rates == other.rates),
            ("[server]", *server == other.server),
            ("[admin]", (admin.listen, &admin.tls) == (other.admin.listen, &other.admin.tls)),
            ("[store]", *store == other.store),
            ("[backup]", *backup == other.backup),
            ("[dedupe]", *dedupe == other.dedupe),
            ("[limits]", *limits == other.limits),
            ("[network]", *network == other.network),
            ("[click]", *click == other.click),
            ("[inbound]", *inbound == other.inbound),
            ("[privacy]", *privacy == other.privacy),
            ("[retention]", *retention == other.retention),
            ("[log]", *log == other.log),
        ];
        same.into_iter().filter(|(_, is_same)| !is_same).map(|(name, _)| name).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_from_another_configuration_is_named_but_for_tokens() {
        let text =
            "[admin]\ntoken = \"a-token-of-the-admin-api-for-tests\"\n[backup]\npath = \"b\"\n";
        let load = |env: &[(&str, &str)]| {
            let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            Config::load(Some(text), "postbackd.toml", env).expect("sound").0
        };
        let differing = |env: &[(&str, &str)]| load(&[]).differing(&load(env)).join(" ");
        assert_eq!(differing(&[]), "");
        assert_eq!(differing(&[("POSTBACKD_ADMIN__TOKEN", "another-token-of-the-admin-api")]), "");
        let key = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
        for (name, value, section) in [
            ("CATALOG", "c.toml", "catalog"),
            ("RATES", "r.toml", "rates"),
            ("SERVER__NODE", "2", "[server]"),
            ("ADMIN__LISTEN", "127.0.0.1:9091", "[admin]"),
            ("STORE__READER_THREADS", "3", "[store]"),
            ("BACKUP__PATH", "c", "[backup]"),
            ("DEDUPE__CACHE_ENTRIES", "1000", "[dedupe]"),
            ("LIMITS__POSTBACKS_PER_IP", "10/1m", "[limits]"),
            ("NETWORK__TIME_ZONE", "Europe/Berlin", "[network]"),
            ("CLICK__SIGNING_KEY", key, "[click]"),
            ("INBOUND__IP", "truncated", "[inbound]"),
            ("PRIVACY__WITHOUT_CONSENT", "strip", "[privacy]"),
            ("RETENTION__CLICKS", "30d", "[retention]"),
            ("LOG__LEVEL", "debug", "[log]"),
        ] {
            assert_eq!(differing(&[(&format!("POSTBACKD_{name}"), value)]), section);
        }
    }
}
