"""Public data by source cards: addresses, licences, checksums, downloads that go on."""
