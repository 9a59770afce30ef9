"""CEM by Softlink, Czech Republic: the counters of a building or of a whole city under one login."""
