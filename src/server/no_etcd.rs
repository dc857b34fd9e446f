//! Stand-ins for etcd in a build without it, so that the rest of the server is the same. Invariant: these types have no
//! values.

use std::fmt::{self, Display};
use std::io;

use mio::{Registry, Token};

use super::lead::Step;
use crate::command::Us;
use crate::config::{self, Config};
use crate::hub::{Hub, Standing};
use crate::log::Log;

/// The store that servers share: this build knows none.
pub enum Store {}

/// Why it cannot be asked: nobody could ask for it.
#[derive(Debug)]
pub enum NoStore {}

/// This server among others.
pub(super) enum Cluster {}

impl Display for NoStore {
    fn fmt(&self, _: &mut fmt::Formatter) -> fmt::Result {
        match *self {}
    }
}

impl NoStore {
    /// There is no value to call it on.
    pub fn is_unread(&self) -> bool {
        match *self {}
    }
}

impl Store {
    /// None, as the options were refused.
    ///
    /// # Errors
    /// None.
    pub fn read(_: &config::Etcd, _: &mut Vec<String>) -> Result<Option<Store>, NoStore> {
        Ok(None)
    }
}

impl Cluster {
    pub fn start(_: &Config, store: Store, _: &Registry, _: Token) -> io::Result<Cluster> {
        match store {}
    }

    pub fn hear(&mut self, _: Us, _: &mut Log) -> io::Result<Option<Step>> {
        match *self {}
    }

    pub fn wait(&mut self, _: Us, _: &mut Log) -> io::Result<Step> {
        match *self {}
    }

    pub fn is_to_lead(&self, _: Us) -> bool {
        match *self {}
    }

    pub fn is_silent(&self, _: Us) -> bool {
        match *self {}
    }

    pub fn ask(&mut self, _: Us) {
        match *self {}
    }

    pub fn keep(&mut self, _: Us, _: &mut Hub) {
        match *self {}
    }

    pub fn leave(&mut self, _: Us, _: &mut Hub) -> bool {
        match *self {}
    }

    pub fn deadline(&self) -> Option<Us> {
        match *self {}
    }

    pub fn taken(&self, _: Us) -> Us {
        match *self {}
    }

    pub fn secret(&self) -> [u8; 16] {
        match *self {}
    }

    pub fn known(&self, _: Us) -> String {
        match *self {}
    }

    pub fn standing(&self) -> Standing {
        match *self {}
    }
}
