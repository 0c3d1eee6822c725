"""The steps of Algorithm 1, a file each: what it reads, what it leaves, which lines of the listing it is."""
