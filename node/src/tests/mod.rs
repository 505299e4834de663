//! Tests of the whole node: people, a small relay, direct links, crashes; no time passes but by word.

mod about;
mod account;
mod audit;
mod backup;
mod contact;
mod crash;
mod direct;
mod dropped;
mod facts;
mod groups;
mod hostile;
mod invitations;
mod keys;
mod last_resort;
mod manners;
mod messages;
mod people;
mod pushes;
mod receipts;
mod requests;
mod siblings;
mod signals;
mod stamp;
mod threats;
mod witness;
mod world;
