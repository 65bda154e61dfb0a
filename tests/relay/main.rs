//! Scenarios on loopback: a whole relay, a real DNS server, real SMTP peers; one file a
//! behaviour.

mod anything;
mod asking;
mod bounces;
mod chain;
mod dialogue;
mod egress;
mod failover;
mod feedback;
mod http;
mod intake;
mod lab;
mod live;
mod plugins;
mod pools;
mod reload;
mod replay;
mod routes;
mod samples;
mod shadow;
mod state;
mod tables;
mod tls;
mod trial;
