"""What the stages do on their ranks once they are checked; these modules import torch."""
