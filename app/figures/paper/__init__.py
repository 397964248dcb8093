"""The paper's figures, of whichever model is open: each of them data, a chart of the page, and a drawing for print."""
