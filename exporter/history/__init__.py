"""The history series: export, remote read and remote write."""
