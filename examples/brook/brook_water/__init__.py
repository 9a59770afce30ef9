"""Brook Water, an invented portal: the worked example of a portal in a package of its own."""
