"""Pages for people: one Jinja environment, one style sheet, the look of figures, numbers as people read them."""
