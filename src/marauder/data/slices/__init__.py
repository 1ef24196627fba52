"""Slices: named parts of a data set, by attributes of pictures, by boxes, by lists of ids, or intersections."""
