"""What stands between the page and the network: what may be asked, how large it may be, what is kept of a visitor."""
