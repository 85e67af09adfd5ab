"""A judge's marks of training rows, so that rows below a mark can be left out."""
