"""Changes of parsed JSON, for tests of what is read with suspicion."""


def changed_at(path, value):
    """Return a function that puts a value at a path of keys, or removes what is there if the value is None."""

    def change(table):
        *way, last = path
        for step in way:
            table = table[step]
        if value is None:
            del table[last]
        else:
            table[last] = value

    return change
