"""Raw images into tars: cut, packed, continued, updated in place; tars of others indexed."""
