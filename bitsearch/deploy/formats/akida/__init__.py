"""A packed network in the first-generation layers of BrainChip's Akida."""
