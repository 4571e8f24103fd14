"""The spiking neurons of a converted network: which give way, which stand in their places, and what feeds them."""
