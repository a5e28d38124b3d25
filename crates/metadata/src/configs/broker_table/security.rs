//! Authentication, TLS, authorization, delegation tokens.

use crate::configs::def::{ConfigDef, class, list, long, password, string};

#[rustfmt::skip]
pub(crate) static SECURITY: &[ConfigDef] = &[
    string("authorizer.class.name").default("")
        .doc("The authorizer; empty allows everything."),
    class("principal.builder.class").default("org.apache.kafka.common.security.authenticator.DefaultKafkaPrincipalBuilder").per_broker()
        .doc("A plug-in class that names the user of a connection; classes cannot be loaded here."),
    list("sasl.enabled.mechanisms").default("GSSAPI").per_broker()
        .doc("SASL mechanisms that clients may use."),
    string("sasl.mechanism.inter.broker.protocol").default("GSSAPI").per_broker()
        .doc("SASL mechanism among brokers."),
    string("sasl.mechanism.controller.protocol").default("GSSAPI")
        .doc("SASL mechanism between brokers and controllers."),
    password("sasl.jaas.config").per_broker()
        .doc("Login modules and their options of a listener's SASL mechanism."),
    string("ssl.client.auth").default("none").one_of(&["required", "requested", "none"]).per_broker()
        .doc("Whether clients present a certificate: `required`, `requested` or `none`."),
    string("ssl.protocol").default("TLSv1.3").per_broker()
        .doc("The TLS version to prefer."),
    list("ssl.enabled.protocols").default("TLSv1.2,TLSv1.3").per_broker()
        .doc("The TLS versions that are accepted."),
    list("ssl.cipher.suites").default("").per_broker()
        .doc("The cipher suites that are accepted; empty for the library's own choice."),
    string("ssl.endpoint.identification.algorithm").default("https").per_broker()
        .doc("How the name in a server's certificate is checked; empty for not at all."),
    string("ssl.principal.mapping.rules").default("DEFAULT")
        .doc("Rules that turn the name in a client's certificate into a user."),
    password("ssl.key.password").per_broker()
        .doc("Password of the private key."),
    string("ssl.keystore.type").default("JKS").per_broker()
        .doc("Format of the key store: JKS, PKCS12 or PEM."),
    string("ssl.keystore.location").per_broker()
        .doc("File with this node's key and certificates."),
    password("ssl.keystore.password").per_broker()
        .doc("Password of the key store."),
    password("ssl.keystore.key").per_broker()
        .doc("This node's private key, PEM."),
    password("ssl.keystore.certificate.chain").per_broker()
        .doc("This node's certificates, PEM."),
    string("ssl.truststore.type").default("JKS").per_broker()
        .doc("Format of the trust store: JKS, PKCS12 or PEM."),
    string("ssl.truststore.location").per_broker()
        .doc("File with the certificates that are trusted."),
    password("ssl.truststore.password").per_broker()
        .doc("Password of the trust store."),
    password("ssl.truststore.certificates").per_broker()
        .doc("The certificates that are trusted, PEM."),
    password("delegation.token.secret.key")
        .doc("Secret with which delegation tokens are signed; the same on all nodes."),
    long("delegation.token.max.lifetime.ms").default("604800000").at_least(1)
        .doc("Longest life of a delegation token, renewals included."),
    long("delegation.token.expiry.time.ms").default("86400000").at_least(1)
        .doc("Time until a delegation token must be renewed."),
    long("delegation.token.expiry.check.interval.ms").default("3600000").at_least(1)
        .doc("How often expired delegation tokens are removed."),
];
