"""A Dash app, as Dash's tutorial has it."""

from dash import Dash, Input, Output, callback, dcc, html

app = Dash(__name__)
server = app.server
app.layout = html.Div([dcc.Input(id="name", value="you"), html.Div(id="greeting")], className="page")


@callback(Output("greeting", "children"), Input("name", "value"))
def greet(name: str) -> str:
    """What the page shows below its field."""
    return f"Hello {name}"
