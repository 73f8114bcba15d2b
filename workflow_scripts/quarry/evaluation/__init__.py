"""How good a campaign is: finds of a targeted search, calibration of uncertainties, labels saved against random."""
