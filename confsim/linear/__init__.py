"""The linear pipeline: points of a lattice, an ideal hyperplane, a linear program."""
