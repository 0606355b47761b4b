"""What is shown or kept: everything but who logs in, and with which password."""

import json

import pytest

from photoz.errors import without_password


@pytest.mark.parametrize(
    "text",
    [
        "postgresql+psycopg://me:SECRET@host/photoz",
        "postgresql://me:SEC@RET@host/photoz?sslmode=require",
        "http://host/?token=SECRET&page=1",
        "host=h password=SECRET user=me",
        "connect(host='h', password='SECRET SECRET')",
        "{'password': 'SECRET', 'host': 'h'}",
        json.dumps({"uri": "http://host", "db_password": "SECRET, SECRET"}),
    ],
)
def test_no_password_is_left(text):
    shown = without_password(text)

    assert "SEC" not in shown
    assert "RET" not in shown
    assert "***" in shown


@pytest.mark.parametrize(
    "text",
    [
        "MLflow asks for no password: whoever reaches it can read",
        "tokens: 3; secretary = me",
        '{"name": "sdss", "n_test": 3}',
        "see https://arxiv.org/abs/1704.08095 and http://127.0.0.1:5000/#/experiments",
        "me@host wrote a=b&c=d",
    ],
)
def test_all_else_stays(text):
    assert without_password(text) == text


def test_json_stays_json():
    shown = without_password(json.dumps({"password": "SECRET", "seed": 3}))

    assert json.loads(shown) == {"password": "***", "seed": 3}
