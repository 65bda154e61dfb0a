//! Scenarios on loopback: a whole relay, a real DNS server, real SMTP peers; one file a
//! behaviour.

mod bounces;
mod egress;
mod failover;
mod intake;
mod lab;
mod plugins;
mod reload;
mod routes;
mod tls;
