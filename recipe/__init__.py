"""The only place that knows veRL: plug-ins, stages and the flywheel that joins them."""
