"""The language model: parameters, folders, losses, decoding, and where it all lies on devices."""
