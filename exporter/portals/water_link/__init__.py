"""Water-Link: digital water meters in Antwerp, from the customer portal "Mijn Water-Link"."""
