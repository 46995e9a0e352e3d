//! How many of something each source has: connections, or postbacks that wait.

use std::net::IpAddr;

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;

use crate::throttle::source;

/// Counts by source; one that has nothing takes no memory.
#[derive(Default)]
pub(super) struct BySource(DashMap<IpAddr, usize>);

impl BySource {
    /// One more for the source of an address; how many it has now.
    pub fn add(&self, address: IpAddr) -> usize {
        let mut held = self.0.entry(source(address)).or_insert(0);
        *held += 1;
        *held
    }

    /// One less.
    pub fn remove(&self, address: IpAddr) {
        if let Entry::Occupied(mut held) = self.0.entry(source(address)) {
            *held.get_mut() -= 1;
            if *held.get() == 0 {
                held.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_that_has_nothing_takes_no_memory() {
        let by_source = BySource::default();
        let ip = |text: &str| text.parse::<IpAddr>().expect("an address");
        let one = ["203.0.113.1", "::ffff:203.0.113.1"].map(ip);
        let other = ["2001:db8::1", "2001:db8::2:3:4:5"].map(ip);
        assert_eq!(one.map(|address| by_source.add(address)), [1, 2]);
        assert_eq!(other.map(|address| by_source.add(address)), [1, 2]);
        assert_eq!(by_source.add(ip("2001:db8:0:1::1")), 1);
        one.into_iter().chain(other).for_each(|address| by_source.remove(address));
        assert_eq!(by_source.0.len(), 1);
        by_source.remove(ip("2001:db8:0:1::2"));
        by_source.remove(ip("203.0.113.1"));
        assert_eq!((by_source.0.len(), by_source.add(ip("203.0.113.1"))), (0, 1));
    }
}
