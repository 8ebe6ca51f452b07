"""The pack chain: files of sequences and text become packed token shards."""
