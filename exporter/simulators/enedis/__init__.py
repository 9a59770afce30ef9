"""A simulation of Enedis and of the gateways that give access to it."""
