"""One launch with the PyPI package `fhirclient`, driven by py-fhirclient.test.mjs.

The argument is the settings as JSON. Prints the address to send the person to, reads the address they come
back to, and prints what the app found as JSON. Between the steps the app keeps only its state, as a web app
does between two requests.
"""
import json
import logging
import sys
import time

from fhirclient import client
from fhirclient.models.observation import Observation
from fhirclient.models.patient import Patient
from fhirclient.server import FHIRNotFoundException, FHIRPermissionDeniedException

logging.disable(logging.WARNING)  # it warns of every id_token
settings = json.loads(sys.argv[1])
state = {}
app = client.FHIRClient(settings=settings, save_func=state.update)
app.prepare()
print(app.authorize_url, flush=True)
app.save_state()

app = client.FHIRClient(state=json.loads(json.dumps(state)), save_func=state.update)
try:
    app.handle_callback(sys.stdin.readline().strip())
except Exception as error:  # what the package raises when the person says no
    print(json.dumps({"error": str(error)}))
    sys.exit()


def refused(other):
    """How reading another patient's record is refused."""
    try:
        Patient.read(other, app.server)
    except FHIRPermissionDeniedException:
        return 403
    except FHIRNotFoundException:
        return 404


found = {
    "ready": app.ready,
    "patient": app.patient.id,
    "name": app.human_name(app.patient.name[0]),
    "observations": len(Observation.where({"patient": app.patient_id}).perform_resources(app.server)),
    "other": refused(settings["other_patient"]),
}
if "life" in settings:
    time.sleep(settings["life"] + 0.2)
    found["over"] = not app.ready
    found["refreshed"] = app.reauthorize()
    found["again"] = Patient.read(app.patient_id, app.server).id
print(json.dumps(found))
