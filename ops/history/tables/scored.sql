(
    WITH asked AS (
        SELECT task, coalesce((policy -> 'evaluation' ->> 'quorum')::INTEGER, 1) AS quorum,
            (policy -> 'evaluation' ->> 'disagreement_max')::DOUBLE AS apart,
            coalesce(policy -> 'evaluation' ->> 'metric', nullif(policy -> 'stop' ->> 'target_metric', ''), 'accuracy')
                AS judged
        FROM facts.task_created
        WHERE coalesce(policy -> 'evaluation' ->> 'quorum', policy -> 'evaluation' ->> 'disagreement_max',
            policy -> 'evaluation' ->> 'drop_max') IS NOT NULL
        QUALIFY row_number() OVER (PARTITION BY task ORDER BY at_offset) = 1
    ), heard AS (
        SELECT at_partition, input_offset AS at_offset FROM facts.noticed_fact
        WHERE at_topic = 'rounds' AND event = 'VersionEvaluated'
    ), voices AS (
        SELECT task, version, CASE WHEN source IS NULL THEN coalesce(evaluator, '') ELSE '+' END AS voice,
            arg_min(metrics, at_offset) AS metrics, arg_min(samples, at_offset) AS samples,
            any_value(quorum) AS quorum, any_value(apart) AS apart, any_value(judged) AS judged
        FROM (FROM facts.version_evaluated SEMI JOIN heard USING (at_partition, at_offset)) JOIN asked USING (task)
        WHERE cohort = '' GROUP BY task, version, voice
    ), numbers AS (
        SELECT * EXCLUDE (metrics), (json_extract_string(metrics, '$."' || name || '"'))::DOUBLE AS value
        FROM (SELECT *, unnest(json_keys(metrics)) AS name FROM voices)
    ), near AS (
        SELECT task, version, max(many) AS agreeing FROM (
            SELECT task, version, one.voice, count(*) AS many
            FROM numbers AS one JOIN numbers AS other USING (task, version)
            WHERE one.name = one.judged AND other.name = other.judged
                AND other.value >= one.value AND other.value - one.value <= one.apart
            GROUP BY task, version, one.voice
        ) GROUP BY task, version
    ), final AS (
        SELECT task, version, sum(samples)::BIGINT AS samples
        FROM voices LEFT JOIN near USING (task, version) GROUP BY task, version
        HAVING count(*) >= any_value(quorum) AND (any_value(apart) IS NULL
            OR (any_value(agreeing) >= any_value(quorum) AND 2 * any_value(agreeing) > count(*)))
    ), medians AS (
        SELECT task, version, name, median(value) AS value FROM numbers
        GROUP BY task, version, name HAVING count(*) >= any_value(quorum)
    )
    SELECT task, version, json_group_object(name, value) AS metrics, any_value(final.samples) AS samples
    FROM final JOIN medians USING (task, version) GROUP BY task, version
    UNION ALL
    SELECT task, version, arg_max(metrics, at_offset) AS metrics, arg_max(samples, at_offset) AS samples
    FROM facts.version_evaluated WHERE cohort = '' AND source IS NULL AND task NOT IN (SELECT task FROM asked)
    GROUP BY task, version
)
