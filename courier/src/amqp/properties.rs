//! A parcel's properties as AMQP's, and back.

use crate::{Parcel, Properties, SHORT_LIMIT};
use bytes::Bytes;
use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable, ShortString},
};
use std::collections::BTreeMap;

/// AMQP's short string, at most 255 bytes. lapin's `From` panics where this fails.
pub(super) fn short(text: &str) -> anyhow::Result<ShortString> {
    ShortString::try_new(text)
        .map_err(|_too_long| anyhow::anyhow!("{text:?} is longer than the {SHORT_LIMIT} bytes that AMQP allows"))
}

/// As sent; the content is JSON.
pub(super) fn to_amqp(properties: &Properties) -> anyhow::Result<BasicProperties> {
    let mut amqp = BasicProperties::default()
        .with_content_type("application/json".into())
        .with_delivery_mode(if properties.persistent { 2 } else { 1 });
    if let Some(id) = &properties.message_id {
        amqp = amqp.with_message_id(short(id)?);
    }
    if let Some(queue) = &properties.reply_to {
        amqp = amqp.with_reply_to(short(queue)?);
    }
    if let Some(id) = &properties.correlation_id {
        amqp = amqp.with_correlation_id(short(id)?);
    }
    if let Some(user) = &properties.user_id {
        amqp = amqp.with_user_id(short(user)?);
    }
    if let Some(priority) = properties.priority {
        amqp = amqp.with_priority(priority);
    }
    if let Some(milliseconds) = properties.expiration_ms {
        amqp = amqp.with_expiration(short(&milliseconds.to_string())?);
    }
    if !properties.headers.is_empty() {
        let mut headers = FieldTable::default();
        for (key, value) in &properties.headers {
            headers.insert(short(key)?, AMQPValue::LongString(value.as_str().into()));
        }
        amqp = amqp.with_headers(headers);
    }
    Ok(amqp)
}

/// As it arrived. Headers that aren't text are left out.
pub(super) fn from_amqp(message: lapin::message::Delivery) -> Parcel {
    let amqp = &message.properties;
    let owned = |text: &Option<ShortString>| text.as_ref().map(ToString::to_string);
    let properties = Properties {
        message_id: owned(amqp.message_id()),
        reply_to: owned(amqp.reply_to()),
        correlation_id: owned(amqp.correlation_id()),
        user_id: owned(amqp.user_id()),
        priority: *amqp.priority(),
        expiration_ms: amqp.expiration().as_ref().and_then(|text| text.as_str().parse().ok()),
        persistent: *amqp.delivery_mode() == Some(2),
        headers: amqp.headers().as_ref().map(texts).unwrap_or_default(),
    };
    Parcel {
        exchange: message.exchange.to_string(),
        routing_key: message.routing_key.to_string(),
        mandatory: false,
        properties,
        body: Bytes::from(message.data),
    }
}

fn texts(headers: &FieldTable) -> BTreeMap<String, String> {
    headers.inner().iter().filter_map(|(key, value)| Some((key.to_string(), text(value)?))).collect()
}

fn text(value: &AMQPValue) -> Option<String> {
    match value {
        AMQPValue::LongString(text) => Some(String::from_utf8_lossy(text.as_bytes()).into_owned()),
        AMQPValue::ShortString(text) => Some(text.to_string()),
        AMQPValue::Boolean(_)
        | AMQPValue::ShortShortInt(_)
        | AMQPValue::ShortShortUInt(_)
        | AMQPValue::ShortInt(_)
        | AMQPValue::ShortUInt(_)
        | AMQPValue::LongInt(_)
        | AMQPValue::LongUInt(_)
        | AMQPValue::LongLongInt(_)
        | AMQPValue::Float(_)
        | AMQPValue::Double(_)
        | AMQPValue::DecimalValue(_)
        | AMQPValue::FieldArray(_)
        | AMQPValue::Timestamp(_)
        | AMQPValue::FieldTable(_)
        | AMQPValue::ByteArray(_)
        | AMQPValue::Void => None,
    }
}
