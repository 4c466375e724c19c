"""How clients of OpenAI's API say who they are."""

from rest_framework.authentication import TokenAuthentication


class BearerAuthentication(TokenAuthentication):
    """Authenticate by `Authorization: Bearer …` and a token of rest_framework.authtoken.

    Set `model` in a subclass for tokens of another model.
    """

    keyword = "Bearer"
