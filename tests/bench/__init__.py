"""The figures that `make bench` prints, each beside a raw baseline that was measured in the same run on the same machine."""
