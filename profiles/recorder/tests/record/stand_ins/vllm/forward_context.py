"""What vLLM knows of a step: an object that it makes anew for each."""


class ForwardContext:
    attn_metadata = None


_current = ForwardContext()


def get_forward_context():
    return _current
